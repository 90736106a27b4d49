#include "fault/reference_run.hpp"

#include <algorithm>

#include "sentinel/graph/run.hpp"

namespace sentinel {
namespace {

constexpr std::uint64_t kMostDraws = 1 << 8;

std::vector<OutputFaults::Row> rows_of(const at::Tensor& images, std::int64_t first) {
  std::vector<OutputFaults::Row> rows;
  for (std::int64_t row = 0; row < images.size(0); ++row) rows.push_back({row, first + row});
  return rows;
}

}  // namespace

Blocks split_blocks(const at::Tensor& images, std::int64_t group, std::int64_t block) {
  const std::int64_t count = images.size(0);
  const std::int64_t size = group > 0 ? group : count;
  Blocks blocks;
  for (std::int64_t first = 0; first < count; first += size) {
    ImageRange range{blocks.images.size(), 0, first, std::min(size, count - first)};
    for (const at::Tensor& part : range.of(images).split(block, 0)) blocks.images.push_back(part);
    range.last_block = blocks.images.size();
    blocks.groups.push_back(range);
  }
  return blocks;
}

at::Tensor on_host(const std::vector<at::Tensor>& blocks) {
  return at::cat(blocks, 0).to(at::kCPU).contiguous();
}

at::Tensor reference_run(const Graph& graph, const std::vector<at::Tensor>& blocks,
                         const ImageRange& range, const ReferenceOptions& options) {
  std::vector<at::Tensor> parts;
  std::int64_t first = range.first;
  for (std::size_t block = range.first_block; block < range.last_block; ++block) {
    const at::Tensor images = blocks[block].to(options.type).contiguous(options.format);
    const std::vector<OutputFaults::Row> rows = rows_of(images, first);
    first += images.size(0);
    if (!options.faults && !options.noise) {
      parts.push_back(logits(graph, images));
      continue;
    }
    std::optional<RoundingNoise> noise;
    if (options.noise)
      noise.emplace(
          RoundingDraw{options.noise->magnitudes, block * kMostDraws + options.noise->number});
    parts.push_back(logits(graph, images, [&](NodeId node, at::Tensor& output) {
      if (noise) noise->apply(node, output);
      if (options.faults) options.faults->apply(node, rows, output);
    }));
  }
  return on_host(parts);
}

}  // namespace sentinel
