#pragma once
#include <optional>
#include <vector>

#include "sentinel/graph/fused.hpp"

namespace sentinel {

/// A convolution that reads a changed channel: what it gives is its fault-free output plus a
/// convolution of the difference alone.
struct MixingConv {
  NodeId node = 0;
  Conv conv;  // the originals' rows
};

/// How a fault in one output channel of a convolution spreads up to the next node with a weight. On
/// the way there it stays in that channel; only it need be computed. Nodes are values of a
/// FusedNet.
struct ChannelRoute {
  NodeId conv = 0;
  std::size_t map = 0;  // values of one of its output channels for one image
  NodeId resume = 0;  // the next node with a weight that reads it: from there all channels are run
  std::vector<NodeId> path;        // the affected values before it, ascending; the first is conv
  std::vector<NodeId> changed;     // those of them that values from `resume` on read
  std::vector<NodeId> given;       // fault-free values that path or values from `resume` on read
  std::vector<MixingConv> mixing;  // of those that read one of `changed`
  bool mixing_only = false;        // nothing else reads them

  bool goes_through(NodeId value) const;
  bool changes(NodeId value) const;
};
/// Nothing where the node is no convolution, is the last with a weight, or the fault leaves its
/// channel before the next weight (concatenation, flattening of maps).
std::optional<ChannelRoute> channel_route(const FusedNet& net, NodeId conv);

}  // namespace sentinel
