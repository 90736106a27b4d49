#pragma once
#include <cstdint>
#include <vector>

#include "sentinel/transform/importance.hpp"

namespace sentinel {

/// New order of a node's channels: position i takes the old channel out[i] (in[i]). Channels that
/// are not listed are removed.
struct NodeOrder {
  std::vector<std::int64_t> out, in;
};

/// Every node's channels as they are. Bug for scores of another graph.
std::vector<NodeOrder> identity_orders(const Graph& graph, const ChannelScores& scores);
/// The order of every node by which sort_channels sorts the graph. Bug likewise.
std::vector<NodeOrder> channel_orders(const Graph& graph, const ChannelScores& scores,
                                      GroupScore group_score);

/// Permutes everything of a node that is indexed by its output or input channels, and composes
/// Graph::origin. Bug for channels of a grouped convolution that is not depthwise, and for removed
/// ones of a hardened convolution.
void reorder(Graph& graph, NodeId node, const NodeOrder& order);
/// A copy of the graph with every node in its order.
Graph reordered(const Graph& graph, const std::vector<NodeOrder>& orders);

}  // namespace sentinel
