#pragma once
#include <ATen/ATen.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "fault/output_faults.hpp"
#include "fault/rounding_noise.hpp"
#include "sentinel/graph/graph.hpp"

namespace sentinel {

/// Some images: those of a group, or all.
struct ImageRange {
  std::size_t first_block = 0, last_block = 0;  // [first, last)
  std::int64_t first = 0, images = 0;

  at::Tensor of(const at::Tensor& all) const { return all.narrow(0, first, images); }
};

/// Blocks of images, none of which reaches over the border of a group, and the groups.
struct Blocks {
  std::vector<at::Tensor> images;
  std::vector<ImageRange> groups;  // by number
};

/// `group`: images of a group, 0: all are one; `block`: images of a block.
Blocks split_blocks(const at::Tensor& images, std::int64_t group, std::int64_t block);

/// One copy to the host for all blocks.
at::Tensor on_host(const std::vector<at::Tensor>& blocks);

struct ReferenceOptions {
  at::MemoryFormat format = at::MemoryFormat::Contiguous;  // of the images
  at::ScalarType type = at::kFloat;
  OutputFaults* faults = nullptr;                    // in outputs
  std::optional<RoundingDraw> noise = std::nullopt;  // rounds otherwise
};
/// Logits [images, classes] on the host, by LibTorch's operators one by one.
at::Tensor reference_run(const Graph& graph, const std::vector<at::Tensor>& blocks,
                         const ImageRange& range, const ReferenceOptions& options);

}  // namespace sentinel
