#pragma once
#include <vector>

#include "sentinel/graph/channels.hpp"
#include "sentinel/transform/importance.hpp"

namespace sentinel {

/// Every node's channels as they are. Bug for scores of another graph.
std::vector<NodeOrder> identity_orders(const Graph& graph, const ChannelScores& scores);
/// The order of every node by which sort_channels sorts the graph. Bug likewise.
std::vector<NodeOrder> channel_orders(const Graph& graph, const ChannelScores& scores,
                                      GroupScore group_score);

}  // namespace sentinel
