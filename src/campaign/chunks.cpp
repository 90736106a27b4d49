#include "campaign/chunks.hpp"

#include <algorithm>

namespace sentinel {
namespace {
constexpr double kChunkSeconds =
    1.5;  // short enough that a stop is quick, long enough that messages are rare
constexpr double kMaxChunk = 4096;
}  // namespace

std::uint64_t trials_of_chunk(double seconds) {
  return static_cast<std::uint64_t>(std::clamp(kChunkSeconds / seconds, 1.0, kMaxChunk));
}

Bytes Chunk::encode() const {
  ByteWriter writer;
  writer.write(point);
  writer.vector(tasks);
  return writer.take();
}

Chunk Chunk::decode(const Bytes& bytes) {
  ByteReader reader(bytes, "chunk of work");
  Chunk chunk;
  chunk.point = reader.read<std::uint32_t>();
  chunk.tasks = read_vector<TrialTask>(reader);
  return chunk;
}

ChunkPlanner::ChunkPlanner(std::vector<TrialSource> sources, std::uint64_t missing, int workers,
                           Has has)
    : sources_(std::move(sources)), left_(missing), workers_(workers), has_(std::move(has)) {
  for (const TrialSource& source : sources_) next_id_.push_back(source.first);
}

std::optional<Chunk> ChunkPlanner::next() {
  for (std::uint32_t point = open_; point < sources_.size(); ++point) {
    const TrialSource& source = sources_[point];
    Chunk chunk{point, {}};
    const std::uint64_t size = std::min(chunk_size(source), source.most);
    std::uint64_t& id = next_id_[point];
    for (; id < source.ready() && chunk.tasks.size() < size; ++id)
      if (!has_(point, id)) chunk.tasks.push_back({id, source.draw(id)});
    if (point == open_ && id >= source.ready() && source.ended()) ++open_;
    if (chunk.tasks.empty()) continue;
    left_ -= std::min<std::uint64_t>(left_, chunk.tasks.size());
    return chunk;
  }
  return std::nullopt;
}

void ChunkPlanner::measured(std::uint32_t point, double seconds) {
  const double now = seconds / sources_.at(point).cost;
  seconds_per_cost_ = seconds_per_cost_ == 0 ? now : 0.9 * seconds_per_cost_ + 0.1 * now;
}

std::uint64_t ChunkPlanner::chunk_size(const TrialSource& source) const {
  const std::uint64_t by_time =
      seconds_per_cost_ > 0 ? trials_of_chunk(seconds_per_cost_ * source.cost) : 1;
  const std::uint64_t wanted = std::max(by_time, source.least);
  // Towards the end smaller ones, so that all ranks finish together.
  const std::uint64_t by_share = left_ / (4 * static_cast<std::uint64_t>(workers_)) + 1;
  return std::min(wanted, by_share);
}

}  // namespace sentinel
