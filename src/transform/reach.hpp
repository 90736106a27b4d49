#pragma once
#include <vector>

#include "sentinel/graph/run.hpp"

namespace sentinel {

/// Fault-free outputs that nodes from `layer` on read, its own and those of `also` (before it); the
/// others are undefined. images [N, C, H, W].
Trace trace_around(const Graph& graph, const at::Tensor& images, NodeId layer,
                   const std::vector<NodeId>& also = {});

/// Nodes behind a layer by what a shift of one of its output channels, or of one value of its
/// output, does to them.
struct Reach {
  std::vector<NodeId> untouched;  // do not depend on the layer
  std::vector<NodeId> apart;      // change in the same channel only, or at the same place
  std::vector<NodeId> seen;       // of `apart` and the layer: read by the rest of the network
};
Reach reach_of_channels(const Graph& graph, NodeId layer);
Reach reach_of_neurons(const Graph& graph, NodeId layer);

}  // namespace sentinel
