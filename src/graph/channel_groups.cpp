#include <algorithm>
#include <map>
#include <numeric>

#include "sentinel/graph/channels.hpp"

namespace sentinel {
namespace {

/// Union-find over slots; a slot is one output channel of one node.
class Slots {
 public:
  explicit Slots(const std::vector<std::int64_t>& counts) {
    for (const std::int64_t count : counts) {
      first_.push_back(static_cast<std::int64_t>(parent_.size()));
      parent_.resize(parent_.size() + static_cast<std::size_t>(count));
    }
    std::iota(parent_.begin(), parent_.end(), 0);
  }
  void join(NodeId a, std::int64_t channel_a, NodeId b, std::int64_t channel_b) {
    const std::int64_t x = root(a, channel_a), y = root(b, channel_b);
    parent_[static_cast<std::size_t>(std::max(x, y))] = std::min(x, y);
  }
  std::int64_t root(NodeId node, std::int64_t channel) {
    std::int64_t slot = first_[static_cast<std::size_t>(node)] + channel;
    while (parent_[static_cast<std::size_t>(slot)] != slot) {
      std::int64_t& up = parent_[static_cast<std::size_t>(slot)];
      up = parent_[static_cast<std::size_t>(up)];
      slot = up;
    }
    return slot;
  }

 private:
  std::vector<std::int64_t> first_, parent_;
};

/// All slots that are one channel: node -> its channel numbers.
using Component = std::map<NodeId, std::vector<std::int64_t>>;

std::vector<Component> components(const Graph& graph, const std::vector<std::int64_t>& counts) {
  Slots slots(counts);
  for (NodeId id = 0; id < graph.size(); ++id) {
    const auto maps = channel_maps(graph, counts, id);
    for (std::size_t k = 0; k < maps.size(); ++k) {
      for (std::size_t o = 0; o < maps[k].source.size(); ++o) {
        const std::int64_t source = maps[k].source[o];
        if (source >= 0) slots.join(id, static_cast<std::int64_t>(o), graph[id].inputs[k], source);
      }
    }
  }
  std::map<std::int64_t, Component> by_root;
  for (NodeId id = 0; id < graph.size(); ++id) {
    for (std::int64_t c = 0; c < counts[static_cast<std::size_t>(id)]; ++c) {
      by_root[slots.root(id, c)][id].push_back(c);
    }
  }
  std::vector<Component> result;
  for (auto& entry : by_root) result.push_back(std::move(entry.second));
  return result;
}

/// Channels with the same nodes, as often each, are interchangeable and form one group.
std::vector<std::vector<Component>> interchangeable(std::vector<Component> all) {
  using Signature = std::vector<std::pair<NodeId, std::size_t>>;
  std::map<Signature, std::vector<Component>> by_signature;
  for (Component& component : all) {
    Signature signature;
    for (const auto& [node, channels] : component) signature.emplace_back(node, channels.size());
    by_signature[signature].push_back(std::move(component));
  }
  std::vector<std::vector<Component>> sets;
  for (auto& entry : by_signature) sets.push_back(std::move(entry.second));
  return sets;
}

bool is_producer(const Op& op) {
  return as_conv(op) != nullptr || std::holds_alternative<Linear>(op);
}

/// Grouped but not depthwise: channels may only move within their block, which groups do not
/// express yet, so that neighbours of such a convolution stay as they are.
bool is_blocked(const Op& op) {
  const Conv* conv = as_conv(op);
  return conv != nullptr && conv->groups > 1 && conv->weight.size(1) > 1;
}

bool is_depthwise(const Op& op) {
  const Conv* conv = as_conv(op);
  return conv != nullptr && conv->groups > 1 && conv->weight.size(1) == 1;
}

/// Holds values indexed by its output channels.
bool has_rows(const Op& op) {
  if (const auto* bounded = std::get_if<BoundedActivation>(&op)) return bounded->bound.dim() == 1;
  return is_producer(op) || std::holds_alternative<BatchNorm>(op);
}

GroupMember member(NodeId node, GroupMember::Side side, const std::vector<Component>& channels,
                   NodeId slot_node) {
  GroupMember result{node, side, {}, 1};
  for (const Component& component : channels) {
    const auto& numbers = component.at(slot_node);
    result.copies = static_cast<std::int64_t>(numbers.size());
    result.index.insert(result.index.end(), numbers.begin(), numbers.end());
  }
  return result;
}

ChannelGroup make_group(const Graph& graph, const std::vector<std::vector<NodeId>>& consumers,
                        const std::vector<Component>& channels) {
  ChannelGroup group;
  group.channels = static_cast<std::int64_t>(channels.size());
  for (const auto& entry : channels.front()) {
    const NodeId id = entry.first;
    const Op& op = graph[id].op;
    if (has_rows(op)) {
      group.members.push_back(member(id, GroupMember::Side::kOut, channels, id));
    }
    if (is_producer(op)) group.producers.push_back(id);
    if (id == 0 || id + 1 == graph.size() || is_blocked(op)) group.permutable = false;
    for (const NodeId reader : consumers[static_cast<std::size_t>(id)]) {
      if (!is_producer(graph[reader].op) || is_depthwise(graph[reader].op)) continue;
      group.members.push_back(member(reader, GroupMember::Side::kIn, channels, id));
      if (is_blocked(graph[reader].op)) group.permutable = false;
    }
  }
  std::stable_sort(group.members.begin(), group.members.end(),
                   [](const GroupMember& a, const GroupMember& b) { return a.node < b.node; });
  return group;
}

}  // namespace

std::vector<ChannelGroup> channel_groups(const Graph& graph) {
  const auto counts = channel_counts(graph);
  const auto consumers = graph.consumers();
  std::vector<ChannelGroup> groups;
  for (const auto& channels : interchangeable(components(graph, counts))) {
    ChannelGroup group = make_group(graph, consumers, channels);
    if (!group.producers.empty()) groups.push_back(std::move(group));
  }
  std::stable_sort(groups.begin(), groups.end(), [](const ChannelGroup& a, const ChannelGroup& b) {
    return a.producers.front() < b.producers.front();
  });
  return groups;
}

}  // namespace sentinel
