#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "sentinel/core/bytes.hpp"
#include "sentinel/fault/sampler.hpp"

namespace sentinel {

/// One fault model of a campaign, and how many trials of it are wanted.
struct CampaignPoint {
  Sampler sampler;
  std::uint64_t trials = 0;  // may be 0: a point that keeps its number although nobody asks for it
};

/// Some trials of one point: what a rank is handed at once.
struct Chunk {
  std::uint32_t point = 0;
  std::vector<std::uint64_t> ids;

  Bytes encode() const;
  static Chunk decode(const Bytes& bytes);
};

/// Cuts the missing trials into chunks of about `kChunkSeconds` of work, by the cost measured so
/// far. How they are cut never changes a row.
class ChunkPlanner {
 public:
  using Has = std::function<bool(std::uint32_t point, std::uint64_t id)>;
  /// `trials`: wanted, by point; `missing`: how many of them are not there yet.
  ChunkPlanner(std::vector<std::uint64_t> trials, std::uint64_t missing, int workers, Has has);

  std::optional<Chunk> next();
  /// A trial of all models took this long.
  void measured(double seconds);

 private:
  std::uint64_t chunk_size() const;
  std::vector<std::uint64_t> trials_;
  std::uint32_t point_ = 0;
  std::uint64_t id_ = 0, left_;
  int workers_;
  Has has_;
  double seconds_per_trial_ = 0;  // 0: not known yet
};

}  // namespace sentinel
