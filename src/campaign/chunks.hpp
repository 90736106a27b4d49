#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "sentinel/core/bytes.hpp"
#include "sentinel/stats/design.hpp"

namespace sentinel {

/// A trial as a rank is handed it.
struct TrialTask {
  std::uint64_t id = 0;
  TrialDraw draw;
};

/// Some trials of one point: what a rank is handed at once.
struct Chunk {
  std::uint32_t point = 0;
  std::vector<TrialTask> tasks;

  Bytes encode() const;
  static Chunk decode(const Bytes& bytes);
};

/// Trials that a rank is handed at once where one of all models takes so long: about 1.5 s of work.
std::uint64_t trials_of_chunk(double seconds);

/// Where the trials of a point come from.
struct TrialSource {
  std::uint64_t first = 0;               // id of the first
  std::function<std::uint64_t()> ready;  // ids below this may be handed out now
  std::function<bool()> ended;           // no more will become ready
  std::function<TrialDraw(std::uint64_t)> draw;
  std::uint64_t most = UINT64_MAX;  // in one chunk: rounds are short, and all ranks want some
  std::uint64_t least = 1;          // in one chunk while enough are left, however slow they are
  double cost = 1;                  // of a trial, relative to those of other points
};

/// Cuts the missing trials into chunks (trials_of_chunk), by the cost measured so far. How they are
/// cut never changes a row.
class ChunkPlanner {
 public:
  using Has = std::function<bool(std::uint32_t point, std::uint64_t id)>;
  /// `sources`: by point; `missing`: how many trials are not there yet.
  ChunkPlanner(std::vector<TrialSource> sources, std::uint64_t missing, int workers, Has has);

  /// Nothing where no trial can be handed out now: later there may be some, when results are in.
  std::optional<Chunk> next();
  /// A trial of all models took this long.
  void measured(std::uint32_t point, double seconds);

 private:
  std::uint64_t chunk_size(const TrialSource& source) const;
  std::vector<TrialSource> sources_;
  std::vector<std::uint64_t> next_id_;  // by point
  std::uint32_t open_ = 0;              // the first point that has not ended
  std::uint64_t left_;
  int workers_;
  Has has_;
  double seconds_per_cost_ = 0;  // 0: not known yet
};

}  // namespace sentinel
