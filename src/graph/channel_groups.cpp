#include <algorithm>
#include <map>
#include <numeric>

#include "sentinel/graph/channels.hpp"
#include "sentinel/graph/profile.hpp"

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

/// Grouped but not depthwise.
bool is_blocked(const Op& op) {
  const Conv* conv = as_conv(op);
  return conv != nullptr && conv->groups > 1 && conv->weight.size(1) > 1;
}

/// The blocks of a grouped convolution stay equally wide where channels go, and each reads its own
/// inputs, so that the channels with the same place in every block move together.
void join_blocks(Slots& slots, NodeId node, const std::vector<std::int64_t>& counts,
                 const Conv& conv) {
  const std::int64_t all = counts[static_cast<std::size_t>(node)], width = all / conv.groups;
  for (std::int64_t c = width; c < all; ++c) slots.join(node, c, node, c - width);
}

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
    if (is_blocked(graph[id].op)) {
      join_blocks(slots, id, counts, *as_conv(graph[id].op));
      join_blocks(slots, graph[id].inputs[0], counts, *as_conv(graph[id].op));
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

/// What a component must share with others to change places with them, its k-th channel of each
/// node with their k-th.
class Signatures {
 public:
  Signatures(const Graph& graph, const std::vector<std::int64_t>& counts)
      : graph_(graph), counts_(counts), consumers_(graph.consumers()) {
    for (NodeId id = 0; id < graph.size(); ++id) maps_.push_back(channel_maps(graph, counts, id));
  }

  /// Its nodes, as often each; which of its channels reads which; the blocks they lie in.
  std::vector<std::int64_t> of(const Component& component) const {
    std::vector<std::int64_t> signature;
    for (const auto& [node, channels] : component) {
      signature.insert(signature.end(), {node, static_cast<std::int64_t>(channels.size())});
      add_sources(component, node, channels, signature);
      if (is_blocked(graph_[node].op)) {
        const Conv& conv = *as_conv(graph_[node].op);
        add_blocks(channels, counts_[static_cast<std::size_t>(node)] / conv.groups, signature);
      }
      for (const NodeId reader : consumers_[static_cast<std::size_t>(node)])
        if (is_blocked(graph_[reader].op))
          add_blocks(channels, as_conv(graph_[reader].op)->weight.size(1), signature);
    }
    return signature;
  }

 private:
  void add_sources(const Component& component, NodeId node,
                   const std::vector<std::int64_t>& channels,
                   std::vector<std::int64_t>& signature) const {
    const auto& maps = maps_[static_cast<std::size_t>(node)];
    for (std::size_t k = 0; k < maps.size(); ++k) {
      if (maps[k].mixing) continue;
      for (const std::int64_t channel : channels) {
        const std::int64_t source = maps[k].source[static_cast<std::size_t>(channel)];
        if (source < 0) {
          signature.push_back(-1);
          continue;
        }
        const auto& there = component.at(graph_[node].inputs[k]);
        signature.push_back(std::lower_bound(there.begin(), there.end(), source) - there.begin());
      }
    }
  }
  static void add_blocks(const std::vector<std::int64_t>& channels, std::int64_t width,
                         std::vector<std::int64_t>& signature) {
    for (const std::int64_t channel : channels) signature.push_back(channel / width);
  }

  const Graph& graph_;
  const std::vector<std::int64_t>& counts_;
  std::vector<std::vector<NodeId>> consumers_;
  std::vector<std::vector<ChannelMap>> maps_;
};

/// Channels that can change places form one group.
std::vector<std::vector<Component>> interchangeable(const Graph& graph,
                                                    const std::vector<std::int64_t>& counts) {
  const Signatures signatures(graph, counts);
  std::map<std::vector<std::int64_t>, std::vector<Component>> by_signature;
  for (Component& component : components(graph, counts)) {
    by_signature[signatures.of(component)].push_back(std::move(component));
  }
  std::vector<std::vector<Component>> sets;
  for (auto& entry : by_signature) sets.push_back(std::move(entry.second));
  return sets;
}

bool is_producer(const Op& op) {
  return as_conv(op) != nullptr || std::holds_alternative<Linear>(op);
}

bool is_depthwise(const Op& op) {
  const Conv* conv = as_conv(op);
  return conv != nullptr && conv->groups > 1 && conv->weight.size(1) == 1;
}

/// Holds values indexed by its output channels.
bool has_rows(const Op& op) {
  if (const auto* bounded = std::get_if<BoundedActivation>(&op)) return bounded->bound.dim() > 0;
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
    if (id == 0 || id + 1 == graph.size()) group.permutable = false;
    for (const NodeId reader : consumers[static_cast<std::size_t>(id)]) {
      if (!is_producer(graph[reader].op) || is_depthwise(graph[reader].op)) continue;
      group.members.push_back(member(reader, GroupMember::Side::kIn, channels, id));
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
  for (const auto& channels : interchangeable(graph, counts)) {
    ChannelGroup group = make_group(graph, consumers, channels);
    if (!group.producers.empty()) groups.push_back(std::move(group));
  }
  std::stable_sort(groups.begin(), groups.end(), [](const ChannelGroup& a, const ChannelGroup& b) {
    return a.producers.front() < b.producers.front();
  });
  return groups;
}

}  // namespace sentinel
