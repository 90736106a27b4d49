#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "sentinel/core/error.hpp"
#include "sentinel/graph/channels.hpp"
#include "sentinel/graph/profile.hpp"
#include "sentinel/transform/harden.hpp"
#include "transform/channel_orders.hpp"

namespace sentinel {
namespace {

using ScoresOfNode = std::map<NodeId, const std::vector<double>*>;

ScoresOfNode scores_by_node(const Graph& graph, const ChannelScores& scores) {
  const auto channels = channel_counts(graph);
  ScoresOfNode by_node;
  for (const auto& layer : scores) {
    const bool fits = layer.node >= 0 && layer.node < graph.size() &&
                      as_conv(graph[layer.node].op) && graph[layer.node].name == layer.layer &&
                      channels[static_cast<std::size_t>(layer.node)] ==
                          static_cast<std::int64_t>(layer.scores.size());
    if (!fits) throw Bug("scores of another graph: layer " + layer.layer);
    by_node[layer.node] = &layer.scores;
  }
  for (NodeId id = 0; id < graph.size(); ++id) {
    if (as_conv(graph[id].op) && !by_node.count(id)) {
      throw Bug("scores of another graph: no scores of layer " + graph[id].name);
    }
  }
  return by_node;
}

/// Scores of a group's channels by one producer; the mean where it has several channels for one.
std::vector<double> member_scores(const GroupMember& member, std::int64_t channels,
                                  const std::vector<double>& scores) {
  std::vector<double> result;
  for (std::int64_t g = 0; g < channels; ++g) {
    double sum = 0;
    for (std::int64_t k = 0; k < member.copies; ++k) {
      const auto at = static_cast<std::size_t>(g * member.copies + k);
      sum += scores.at(static_cast<std::size_t>(member.index.at(at)));
    }
    result.push_back(sum / static_cast<double>(member.copies));
  }
  return result;
}

/// Scaled to sum 1; channels without a finite score do not count in the sum.
void normalise(std::vector<double>& scores) {
  double sum = 0;
  for (double score : scores) sum += std::isfinite(score) ? score : 0.0;
  if (sum == 0) return;
  for (double& score : scores) score /= sum;
}

/// Position of a layer's weight in the state_dict; layers that are not listed come after, in
/// execution order.
std::size_t state_position(const Graph& graph, NodeId node) {
  const auto& order = graph.state_order;
  const auto found = std::find(order.begin(), order.end(), graph[node].name + ".weight");
  const auto position = static_cast<std::size_t>(found - order.begin());
  return found == order.end() ? position + static_cast<std::size_t>(node) : position;
}

std::vector<const GroupMember*> scored_members(const ChannelGroup& group,
                                               const ScoresOfNode& scores) {
  std::vector<const GroupMember*> members;
  for (const auto& member : group.members) {
    const bool produces = std::count(group.producers.begin(), group.producers.end(), member.node);
    if (member.side == GroupMember::Side::kOut && produces && scores.count(member.node)) {
      members.push_back(&member);
    }
  }
  return members;
}

/// The group's channels in their common order; empty where no member has scores (linear layers).
std::vector<std::int64_t> group_order(const Graph& graph, const ChannelGroup& group,
                                      const ScoresOfNode& scores, GroupScore how) {
  auto members = scored_members(group, scores);
  if (members.empty()) return {};
  if (how == GroupScore::kFirst) {
    const auto first = *std::min_element(
        members.begin(), members.end(), [&](const GroupMember* a, const GroupMember* b) {
          return state_position(graph, a->node) < state_position(graph, b->node);
        });
    members = {first};
  }
  std::vector<double> total(static_cast<std::size_t>(group.channels), 0.0);
  for (const auto* member : members) {
    auto part = member_scores(*member, group.channels, *scores.at(member->node));
    // One member alone keeps its raw scores, so that rounding cannot make ties.
    if (members.size() > 1) normalise(part);
    for (std::size_t g = 0; g < total.size(); ++g) total[g] += part[g];
  }
  return descending(total);
}

std::vector<std::int64_t> identity(std::int64_t n) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  return order;
}

void enter(const GroupMember& member, const std::vector<std::int64_t>& order, NodeOrder& node) {
  auto& numbers = member.side == GroupMember::Side::kOut ? node.out : node.in;
  for (std::size_t g = 0; g < order.size(); ++g) {
    for (std::int64_t k = 0; k < member.copies; ++k) {
      const std::int64_t to = static_cast<std::int64_t>(g) * member.copies + k;
      const std::int64_t from = order[g] * member.copies + k;
      numbers.at(static_cast<std::size_t>(member.index.at(static_cast<std::size_t>(to)))) =
          member.index.at(static_cast<std::size_t>(from));
    }
  }
}

}  // namespace

std::vector<NodeOrder> identity_orders(const Graph& graph, const ChannelScores& scores) {
  scores_by_node(graph, scores);
  const auto channels = channel_counts(graph);
  std::vector<NodeOrder> orders;
  for (NodeId id = 0; id < graph.size(); ++id) {
    const auto& inputs = graph[id].inputs;
    const std::int64_t in = inputs.empty() ? 0 : channels[static_cast<std::size_t>(inputs[0])];
    orders.push_back({identity(channels[static_cast<std::size_t>(id)]), identity(in)});
  }
  return orders;
}

std::vector<NodeOrder> channel_orders(const Graph& graph, const ChannelScores& scores,
                                      GroupScore group_score) {
  const auto by_node = scores_by_node(graph, scores);
  auto orders = identity_orders(graph, scores);
  for (const auto& group : channel_groups(graph)) {
    if (!group.permutable) continue;
    const auto order = group_order(graph, group, by_node, group_score);
    if (order.empty()) continue;
    for (const auto& member : group.members) {
      enter(member, order, orders.at(static_cast<std::size_t>(member.node)));
    }
  }
  return orders;
}

std::vector<GroupOrder> group_orders(const Graph& graph, const ChannelScores& scores,
                                     GroupScore group_score) {
  const auto by_node = scores_by_node(graph, scores);
  std::vector<GroupOrder> orders;
  for (const auto& group : channel_groups(graph)) {
    GroupOrder order{{}, group.channels, group.permutable, {}};
    for (const auto* member : scored_members(group, by_node))
      order.layers.push_back(graph[member->node].name);
    order.order = group_order(graph, group, by_node, group_score);
    if (!order.layers.empty()) orders.push_back(std::move(order));
  }
  return orders;
}

Graph sort_channels(const Graph& graph, const ChannelScores& scores, GroupScore group_score) {
  return reordered(graph, channel_orders(graph, scores, group_score));
}

}  // namespace sentinel
