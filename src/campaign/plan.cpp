#include "campaign/plan.hpp"

#include <algorithm>

namespace sentinel {
namespace {
constexpr double kChunkSeconds =
    1.5;  // short enough that a stop is quick, long enough that messages are rare
constexpr double kMaxChunk = 4096;
}  // namespace

Bytes Chunk::encode() const {
  ByteWriter writer;
  writer.write(point);
  writer.vector(ids);
  return writer.take();
}

Chunk Chunk::decode(const Bytes& bytes) {
  ByteReader reader(bytes, "chunk of work");
  Chunk chunk;
  chunk.point = reader.read<std::uint32_t>();
  chunk.ids = read_vector<std::uint64_t>(reader);
  return chunk;
}

ChunkPlanner::ChunkPlanner(std::vector<std::uint64_t> trials, std::uint64_t missing, int workers,
                           Has has)
    : trials_(std::move(trials)), left_(missing), workers_(workers), has_(std::move(has)) {}

std::optional<Chunk> ChunkPlanner::next() {
  const std::uint64_t wanted = chunk_size();
  for (; point_ < trials_.size(); ++point_, id_ = 0) {
    Chunk chunk{point_, {}};
    for (; id_ < trials_[point_] && chunk.ids.size() < wanted; ++id_)
      if (!has_(point_, id_)) chunk.ids.push_back(id_);
    if (chunk.ids.empty()) continue;
    left_ -= std::min<std::uint64_t>(left_, chunk.ids.size());
    return chunk;
  }
  return std::nullopt;
}

void ChunkPlanner::measured(double seconds) {
  seconds_per_trial_ = seconds_per_trial_ == 0 ? seconds : 0.9 * seconds_per_trial_ + 0.1 * seconds;
}

std::uint64_t ChunkPlanner::chunk_size() const {
  if (seconds_per_trial_ <= 0) return 1;
  const auto by_time =
      static_cast<std::uint64_t>(std::clamp(kChunkSeconds / seconds_per_trial_, 1.0, kMaxChunk));
  // Towards the end smaller ones, so that all ranks finish together.
  const std::uint64_t by_share = left_ / (4 * static_cast<std::uint64_t>(workers_)) + 1;
  return std::min(by_time, by_share);
}

}  // namespace sentinel
