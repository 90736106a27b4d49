#include "sentinel/transform/prune.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <functional>
#include <set>
#include <utility>
#include <vector>

#include "sentinel/core/error.hpp"
#include "sentinel/core/log.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/graph/channels.hpp"
#include "sentinel/graph/profile.hpp"
#include "transform/channel_orders.hpp"

namespace sentinel {
namespace {

using Numbers = std::vector<std::int64_t>;
/// For every node, which of its output channels stay.
using Masks = std::vector<std::vector<bool>>;

void check_ratio(double ratio, const std::string& what) {
  if (ratio >= 0 && ratio < 1) return;  // a comparison with NaN is false
  throw UserError(
      fmt::format("the pruning ratio {} {}lies outside [0, 1); give the share of channels to "
                  "remove, such as 0.1",
                  ratio, what));
}

bool is_protected(const Op& op) {
  const Conv* conv = as_conv(op);
  const auto* linear = std::get_if<Linear>(&op);
  return std::holds_alternative<DuplicatedConv>(op) ||
         std::holds_alternative<BoundedActivation>(op) || (conv && conv->bounds.low.defined()) ||
         (linear && linear->bounds.low.defined());
}

void check_plain(const Graph& graph) {
  for (const Node& node : graph.nodes()) {
    if (!is_protected(node.op)) continue;
    throw UserError("layer " + node.name +
                    " is hardened already; prune the model it was made from, then harden");
  }
}

/// Groups that sorting orders: without a convolution nothing says which channels matter.
bool can_prune(const Graph& graph, const ChannelGroup& group) {
  return group.permutable &&
         std::any_of(group.producers.begin(), group.producers.end(),
                     [&](NodeId producer) { return as_conv(graph[producer].op) != nullptr; });
}

std::vector<ChannelGroup> prunable_groups(const Graph& graph) {
  std::vector<ChannelGroup> groups = channel_groups(graph);
  groups.erase(std::remove_if(groups.begin(), groups.end(),
                              [&](const ChannelGroup& group) { return !can_prune(graph, group); }),
               groups.end());
  return groups;
}

/// Every layer with a ratio of its own must be one whose channels can go.
void check_named(const Graph& graph, const std::vector<ChannelGroup>& groups,
                 const PruningPlan& plan) {
  std::set<std::string> all, prunable;
  for (const Node& node : graph.nodes()) all.insert(node.name);
  for (const ChannelGroup& group : groups) {
    for (const NodeId producer : group.producers) {
      if (as_conv(graph[producer].op)) prunable.insert(graph[producer].name);
    }
  }
  for (const auto& [layer, ratio] : plan.ratios) {
    check_ratio(ratio, "of layer " + layer + " ");
    if (prunable.count(layer)) continue;
    throw UserError(all.count(layer) ? "layer " + layer +
                                           " cannot be pruned: only convolutions whose channels "
                                           "are free can; leave it out of " +
                                           spelled(Setting::kPruningRatios)
                                     : spelled(Setting::kPruningRatios) + " names layer " + layer +
                                           ", which the network (" + graph.architecture +
                                           ") does not have; `profile` lists its layers");
  }
}

/// The ratio its members were given, else the plan's.
double ratio_of(const Graph& graph, const ChannelGroup& group, const PruningPlan& plan) {
  auto chosen = plan.ratios.end();
  for (const NodeId producer : group.producers) {
    const auto own = plan.ratios.find(graph[producer].name);
    if (own == plan.ratios.end()) continue;
    if (chosen == plan.ratios.end()) chosen = own;
    if (own->second == chosen->second) continue;
    throw UserError(fmt::format(
        "layers {} and {} share their channels but have the pruning ratios {} and {}; give both "
        "the same or name one only",
        chosen->first, own->first, chosen->second, own->second));
  }
  return chosen == plan.ratios.end() ? plan.ratio : chosen->second;
}

/// Marks the last channels of a sorted group.
void remove_last(const ChannelGroup& group, double ratio, Masks& masks) {
  const std::int64_t removed = share_of(group.channels, ratio);
  for (const GroupMember& member : group.members) {
    if (member.side != GroupMember::Side::kOut) continue;
    auto& mask = masks.at(static_cast<std::size_t>(member.node));
    for (std::int64_t i = (group.channels - removed) * member.copies;
         i < group.channels * member.copies; ++i) {
      mask.at(static_cast<std::size_t>(member.index.at(static_cast<std::size_t>(i)))) = false;
    }
  }
}

/// What only passes channels on (pooling, concat, depthwise ...) loses those its inputs lose.
void spread(const Graph& graph, const Numbers& counts, Masks& masks) {
  for (NodeId id = 0; id < graph.size(); ++id) {
    const auto maps = channel_maps(graph, counts, id);
    auto& mask = masks[static_cast<std::size_t>(id)];
    for (std::size_t k = 0; k < maps.size(); ++k) {
      const auto& input = masks[static_cast<std::size_t>(graph[id].inputs[k])];
      for (std::size_t o = 0; o < maps[k].source.size(); ++o) {
        const std::int64_t source = maps[k].source[o];
        if (source >= 0 && !input[static_cast<std::size_t>(source)]) mask[o] = false;
      }
    }
  }
}

Numbers positions(const std::vector<bool>& mask) {
  Numbers kept;
  for (std::size_t i = 0; i < mask.size(); ++i) {
    if (mask[i]) kept.push_back(static_cast<std::int64_t>(i));
  }
  return kept;
}

/// A shuffle of fewer channels is another permutation; it must still bring every channel that stays
/// to the readers it had.
bool shuffles_alike(const ChannelShuffle& op, const Numbers& in, const Numbers& out,
                    const ChannelMap& before) {
  const auto count = static_cast<std::int64_t>(out.size());
  if (in.size() != out.size() || count % op.groups != 0) return false;
  const auto after = channel_maps(op, {count}, count).front();
  for (std::size_t o = 0; o < out.size(); ++o) {
    const std::int64_t now = in[static_cast<std::size_t>(after.source[o])];
    if (now != before.source[static_cast<std::size_t>(out[o])]) return false;
  }
  return true;
}

/// A shuffle that cannot pass what would stay, or none.
const Node* stuck_shuffle(const Graph& graph, const Numbers& counts, const Masks& masks) {
  for (NodeId id = 0; id < graph.size(); ++id) {
    const auto* op = std::get_if<ChannelShuffle>(&graph[id].op);
    if (!op) continue;
    const auto in = positions(masks[static_cast<std::size_t>(graph[id].inputs.front())]);
    const auto out = positions(masks[static_cast<std::size_t>(id)]);
    if (!shuffles_alike(*op, in, out, channel_maps(graph, counts, id).front())) return &graph[id];
  }
  return nullptr;
}

/// What stays when these groups lose their shares.
Masks without(const Graph& graph, const Numbers& counts, const std::vector<ChannelGroup>& groups,
              const PruningPlan& plan) {
  Masks masks;
  for (const std::int64_t count : counts) masks.emplace_back(static_cast<std::size_t>(count), true);
  for (const ChannelGroup& group : groups) remove_last(group, ratio_of(graph, group, plan), masks);
  spread(graph, counts, masks);
  return masks;
}

/// Where shuffles cannot pass what would stay, the groups that one sees stay whole, unless a ratio
/// of their own was asked for.
Masks kept_channels(const Graph& graph, const Numbers& counts, const PruningPlan& plan) {
  auto groups = prunable_groups(graph);
  check_named(graph, groups, plan);
  Masks masks = without(graph, counts, groups, plan);
  if (!stuck_shuffle(graph, counts, masks)) return masks;
  PruningPlan named = plan;
  named.ratio = 0;
  const auto is_seen = [&](const ChannelGroup& group) {
    const bool own = ratio_of(graph, group, named) > 0;
    return !own && stuck_shuffle(graph, counts, without(graph, counts, {group}, plan));
  };
  const auto whole = std::stable_partition(groups.begin(), groups.end(), std::not_fn(is_seen));
  std::set<std::string> layers;
  for (auto group = whole; group != groups.end(); ++group)
    layers.insert(graph[group->producers.front()].name);
  groups.erase(whole, groups.end());
  masks = without(graph, counts, groups, plan);
  if (const Node* shuffle = stuck_shuffle(graph, counts, masks))
    throw UserError(
        fmt::format("the channel shuffle {} cannot pass the channels that would stay: its {} parts "
                    "must lose the same ones; leave the layers before it out of {}",
                    shuffle->name, std::get<ChannelShuffle>(shuffle->op).groups,
                    spelled(Setting::kPruningRatios)));
  spdlog::warn("not pruned, as a channel shuffle could not pass what would stay: {}",
               fmt::join(layers, ", "));
  return masks;
}

void keep_only(Numbers& order, const std::vector<bool>& mask) {
  Numbers kept;
  for (const std::int64_t position : positions(mask)) {
    kept.push_back(order.at(static_cast<std::size_t>(position)));
  }
  order = std::move(kept);
}

}  // namespace

Graph prune(const Graph& graph, const ChannelScores& scores, const PruningPlan& plan) {
  check_ratio(plan.ratio, "");
  check_plain(graph);
  const Numbers counts = channel_counts(graph);
  const Masks masks = kept_channels(graph, counts, plan);
  auto orders = channel_orders(graph, scores, plan.group_score);
  for (NodeId id = 0; id < graph.size(); ++id) {
    NodeOrder& order = orders.at(static_cast<std::size_t>(id));
    keep_only(order.out, masks[static_cast<std::size_t>(id)]);
    if (graph[id].inputs.empty()) continue;
    keep_only(order.in, masks[static_cast<std::size_t>(graph[id].inputs.front())]);
  }
  return reordered(graph, orders);
}

}  // namespace sentinel
