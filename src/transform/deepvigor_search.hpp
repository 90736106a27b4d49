#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "sentinel/graph/run.hpp"

namespace sentinel {

/// Fault-free outputs that nodes from `conv` on read, and its own; the others are undefined. images
/// [N, C, H, W].
Trace trace_around(const Graph& graph, const at::Tensor& images, NodeId conv);

/// Nodes behind a convolution by what a shift of one of its output channels does to them.
struct Reach {
  std::vector<NodeId> untouched;  // do not depend on the convolution
  std::vector<NodeId> apart;      // change in the same channel only
  std::vector<NodeId> seen;       // of `apart` and the convolution: read by the rest of the network
};
Reach reach_of(const Graph& graph, NodeId conv);

/// Searches the smallest shifts of a convolution's output channels that change what the network
/// says of images (the deltas of `deepvigor`, docs/methods.md).
///
/// Every image keeps its place in a batch of fixed shape, so that its arithmetic does not depend on
/// what the others do; each goes on with the next search as soon as it has its answer. A shift
/// behind which the network sees the same bits as behind the one before is not run.
class DeltaSearch {
 public:
  /// `trace`: trace_around `conv`, on the graph's device. DataError naming `images` and the image's
  /// number (from `first` on) where fault-free logits are NaN.
  DeltaSearch(const Graph& graph, NodeId conv, Trace trace, const std::string& images,
              std::int64_t first);

  /// For each channel begin … end-1, image and side (+, -) the number (0 … 20) of the first grid
  /// value, by growing magnitude, that changes PyTorch's arg max when it is added to the channel's
  /// whole output map; the last where none does.
  std::vector<std::uint8_t> deltas(std::int64_t begin, std::int64_t end) const;

 private:
  struct Turn {  // what an image is at
    std::int64_t channel = 0;
    int side = 0, step = 0;
    void next_search();
  };
  void find_repeats(const Reach& reach);
  bool find_step(Turn& turn, std::int64_t image) const;
  at::Tensor logits_with(const at::Tensor& output) const;
  at::Tensor changed_by(const at::Tensor& shift) const;

  const Graph& graph_;
  NodeId conv_;
  Trace trace_;
  std::int64_t images_ = 0, channels_ = 0;
  at::Tensor predictions_;  // [images] i64, fault-free
  // [side][step][image][channel]: the network sees the same bits as one step before
  std::vector<std::uint8_t> repeats_;
};

}  // namespace sentinel
