#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "sentinel/fault/fault_space.hpp"
#include "sentinel/fault/outcome.hpp"
#include "sentinel/graph/graph.hpp"
#include "sentinel/io/dataset.hpp"

namespace sentinel {

inline constexpr std::int64_t kTrialsAtOnce = 16;  // on a GPU, where nothing else is said

struct EngineOptions {
  std::int64_t block = 32;                  // images per block
  std::uint64_t cache_budget = 2ull << 30;  // [bytes] of fault-free activations kept
  at::Device device = at::kCPU;
  bool reference_only = false;          // engine "reference": run() is run_reference()
  Selection selection = {};             // what may fail
  std::size_t most_records = SIZE_MAX;  // faults of a trial that are kept, each
  std::int64_t group = 0;  // images of a group that a trial may be confined to; 0: no groups
  /// Trials whose images run as one batch per block: part of the arithmetic. 0: kTrialsAtOnce on a
  /// GPU; on the CPU each in the way that is fast there.
  std::int64_t trials_at_once = 0;
};
inline constexpr std::int32_t kNoGroup = -1;

/// A trial before it is run: on all images, or on one group of them, image group * size ... of
/// EngineOptions::group.
struct TrialInput {
  Faults faults;
  std::int32_t group = kNoGroup;
};

/// Turns faults into outcomes on a fixed set of images. Owns its graph and the fault-free
/// activations. Not thread safe.
///
/// `run` starts at the first changed node from cached fault-free outputs (channels_last, blocks of
/// images), and computes one channel alone where only that is changed; where nothing is read
/// otherwise, nothing is run. What a trial reads lies beside the network. On a GPU trials run in
/// batches, all channels from their first changed node on. `run_reference` puts what is read into
/// the network, runs the whole of it, and takes it out again. Same outcomes.
class TrialEngine {
 public:
  TrialEngine(Graph graph, Batch images, const EngineOptions& options);
  TrialEngine(TrialEngine&&) noexcept;
  ~TrialEngine();

  const Graph& graph() const;
  const FaultSpace& space() const;
  const Golden& golden() const;
  /// Bytes of cached activations, and how many restart points they serve.
  std::uint64_t cache_bytes() const;
  std::size_t restart_points() const;
  /// Trials whose images run as one batch; 0: none do.
  std::int64_t trials_at_once() const;

  /// Outcomes in the order of the trials, each bit for bit as if it had been run alone; the more
  /// trials at once, the more of their work is shared.
  std::vector<TrialOutcome> run_batch(const std::vector<TrialInput>& trials);
  TrialOutcome run(const Faults& faults, std::int32_t group = kNoGroup);
  TrialOutcome run_reference(const Faults& faults, std::int32_t group = kNoGroup);
  TrialLogits logits(const Faults& faults, std::int32_t group = kNoGroup);
  TrialLogits logits_reference(const Faults& faults, std::int32_t group = kNoGroup);
  /// The reference's logits, [N, classes] f32: what it gives where rounding decides otherwise.
  struct OtherRoundings {
    /// Single precision: once with the memory format channels_last, the others with each sum moved
    /// up or down by what rounding may move it.
    std::vector<at::Tensor> singles;
    at::Tensor doubles;  // double precision, then rounded
  };
  OtherRoundings logits_rounded_otherwise(const Faults& faults, std::int32_t group = kNoGroup);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sentinel
