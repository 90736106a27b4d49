#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "sentinel/fault/fault_space.hpp"
#include "sentinel/graph/graph.hpp"
#include "sentinel/io/dataset.hpp"

namespace sentinel {

/// Which code computed a trial. Values are part of the file format.
enum class EnginePath : std::uint8_t { kReference = 0, kFast = 1 };

/// What one trial did to the images; masked + sdc_noncritical + sdc_critical + due = images (design
/// 02, "Outcome").
struct TrialResult {
  std::uint32_t images = 0;
  std::uint32_t correct = 0;          // arg max = label; DUE counts as wrong
  std::uint32_t top5 = 0;             // label among the five largest logits; DUE counts as wrong
  std::uint32_t masked = 0;           // logits bitwise those of the fault-free run of the same path
  std::uint32_t sdc_noncritical = 0;  // all finite, arg max as fault-free, logits differ
  std::uint32_t sdc_critical = 0;     // all finite, other arg max
  std::uint32_t due = 0;              // some logit not finite
  std::uint32_t correct_argmax =
      0;  // PyTorch's arg max (NaN the largest) = label, DUE or not: the seed tool's count
  std::int32_t first_node = -1;  // first faulty node, -1: no fault
  EnginePath path = EnginePath::kFast;
};

/// A flipped word before and after, as raw words.
struct FaultRecord {
  FaultSite site;
  std::uint32_t before = 0, after = 0;
};

struct TrialOutcome {
  TrialResult result;
  std::vector<FaultRecord> faults;
  double seconds = 0;  // of wall time; trials that ran together share theirs equally
};

/// Fault-free outputs of the reference path.
struct Golden {
  at::Tensor logits;       // [N, classes] f32, CPU
  at::Tensor predictions;  // [N] i64, CPU
  std::int64_t correct = 0, top5 = 0;
};

/// Logits of one trial, for tests, audit and replay.
struct TrialLogits {
  at::Tensor logits;       // [N, classes] f32, CPU
  at::Tensor predictions;  // [N] i64, CPU; -1 = DUE
  TrialResult result = {};
};

struct EngineOptions {
  std::int64_t block = 32;                  // images per block
  std::uint64_t cache_budget = 2ull << 30;  // [bytes] of fault-free activations kept
  at::Device device = at::kCPU;
  bool reference_only = false;  // --engine reference: run() is run_reference()
  std::int64_t group = 0;       // images of a group that a trial may be confined to; 0: no groups
};
inline constexpr std::int32_t kNoGroup = -1;

/// A trial before it is run: on all images, or on one group of them, image group * size ... of
/// EngineOptions::group.
struct TrialInput {
  Faults faults;
  std::int32_t group = kNoGroup;
};

/// Turns faults into outcomes on a fixed set of images. Owns its graph and the fault-free
/// activations; a trial flips bits in place and flips them back. Not thread safe.
///
/// `run` starts at the first faulty node from cached fault-free outputs (channels_last, blocks of
/// images); `run_reference` flips the bits, runs the whole unmodified network, flips back. Same
/// outcomes.
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

  /// Outcomes in the order of the trials, each bit for bit as if it had been run alone; the more
  /// trials at once, the more of their work is shared.
  std::vector<TrialOutcome> run_batch(const std::vector<TrialInput>& trials);
  TrialOutcome run(const Faults& faults, std::int32_t group = kNoGroup);
  TrialOutcome run_reference(const Faults& faults, std::int32_t group = kNoGroup);
  TrialLogits logits(const Faults& faults, std::int32_t group = kNoGroup);
  TrialLogits logits_reference(const Faults& faults, std::int32_t group = kNoGroup);
  /// The reference's logits, [N, classes] f32, once with the memory format channels_last and once
  /// in double precision (then rounded): what it gives where rounding decides otherwise.
  struct OtherRoundings {
    at::Tensor channels_last, doubles;
  };
  OtherRoundings logits_rounded_otherwise(const Faults& faults, std::int32_t group = kNoGroup);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// The decode step of a tensor's words (weight bounds): what is outside, or NaN, is read as 0.
struct ReadRange {
  std::vector<float> low, high;  // one for the tensor or one per row; empty: every word is itself
  std::uint64_t row = 1;         // elements that share an entry
};
/// Takes the weight bounds out of a graph: per tensor of its fault space what was there, so that a
/// FaultGuard decodes a faulty word once instead of the network every word at every use.
std::vector<ReadRange> take_weight_bounds(Graph& graph, const FaultSpace& space);

/// Flips the bits of `faults` in the graph's tensors while it lives; puts the words back exactly
/// when it goes. With `ranges` (by tensor) the graph holds decoded values.
class FaultGuard {
 public:
  /// `words`: the tensors of the space without faults on the host, so that nothing is asked of a
  /// GPU; empty: they are read from the graph.
  FaultGuard(Graph& graph, const FaultSpace& space, const Faults& faults,
             const std::vector<ReadRange>& ranges = {}, const std::vector<at::Tensor>& words = {});
  FaultGuard(const FaultGuard&) = delete;
  FaultGuard& operator=(const FaultGuard&) = delete;
  ~FaultGuard();
  const std::vector<FaultRecord>& records() const { return records_; }

 private:
  struct Word {
    std::uint32_t tensor = 0;
    std::int64_t offset = 0;  // in elements from the tensor's first
    std::uint32_t clean = 0, faulty = 0;
  };
  Word& word_of(const FaultSite& site, const std::vector<at::Tensor>& words);
  void store(std::uint32_t Word::*value) const;
  Graph& graph_;
  const FaultSpace& space_;
  std::vector<FaultRecord> records_;
  std::vector<Word> words_;  // distinct, by tensor
};

/// Copies of the space's tensors on the host, layout kept; empty where they are there already.
std::vector<at::Tensor> words_on_host(const Graph& graph, const FaultSpace& space);

/// Outcome classes of the images given faulty and fault-free logits of the same path [N, classes]
/// (CPU f32) and labels [N].
TrialResult classify(const at::Tensor& faulty, const at::Tensor& fault_free,
                     const at::Tensor& labels);

/// PyTorch's arg max per image; -1 where some logit is not finite.
at::Tensor predictions_of(const at::Tensor& logits);

}  // namespace sentinel
