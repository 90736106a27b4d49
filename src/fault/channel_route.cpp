#include "fault/channel_route.hpp"

#include <algorithm>

#include "fault/weights.hpp"
#include "sentinel/graph/channels.hpp"
#include "sentinel/graph/profile.hpp"

namespace sentinel {
namespace {

using Shapes = std::vector<std::vector<std::int64_t>>;

// Differences below 2^64 are added to what a convolution gave: with weights below this no sum
// overflows, whatever its order.
constexpr float kLargestWeight = 0x1p32F;

std::size_t index(NodeId id) {
  return static_cast<std::size_t>(id);
}

bool contains(const std::vector<NodeId>& nodes, NodeId id) {
  return std::find(nodes.begin(), nodes.end(), id) != nodes.end();
}

/// Also a Flatten of maps of one pixel; `input`: shape without the batch.
bool stays_in_channel(const Op& op, const std::vector<std::int64_t>& input) {
  if (!std::holds_alternative<Flatten>(op)) return keeps_channels_apart(op);
  return std::all_of(input.begin() + 1, input.end(), [](std::int64_t size) { return size == 1; });
}

bool stays_in_channel(const FusedNet& net, NodeId value, const Shapes& shapes) {
  const auto& input = shapes[index(net.inputs(value)[0])];
  for (const NodeId part : net.parts(value))
    if (!stays_in_channel(net.graph()[part].op, input)) return false;
  return true;
}

/// The convolution of fault-free rows to whose output the effect of one input channel may be added,
/// or none.
std::optional<Conv> mixing_conv(const Op& op) {
  const Conv* conv = as_conv(op);
  if (!conv || conv->bounds.low.defined() ||
      !(conv->weight.abs().max().item<float>() < kLargestWeight))
    return std::nullopt;
  Conv originals = *conv;
  if (const auto* duplicated = std::get_if<DuplicatedConv>(&op)) {
    // The copies then change nothing, as what is added is finite.
    if (!copies_agree(*duplicated)) return std::nullopt;
    originals.weight = conv->weight.narrow(0, 0, duplicated->out_channels());
  }
  return originals;
}

}  // namespace

bool ChannelRoute::goes_through(NodeId value) const {
  return contains(path, value);
}

bool ChannelRoute::changes(NodeId value) const {
  return contains(changed, value);
}

std::optional<ChannelRoute> channel_route(const FusedNet& net, NodeId conv) {
  const Graph& graph = net.graph();
  if (!as_conv(graph[conv].op)) return std::nullopt;
  const Shapes shapes = output_shapes(graph);
  ChannelRoute route;
  route.conv = conv;
  route.map = static_cast<std::size_t>(shapes[index(conv)][1] * shapes[index(conv)][2]);
  route.path = {conv};
  route.given = {net.inputs(conv)[0]};
  for (route.resume = conv + 1; route.resume < graph.size(); ++route.resume) {
    const auto affected = [&](NodeId input) { return route.goes_through(input); };
    const std::vector<NodeId>& inputs = net.inputs(route.resume);
    if (std::none_of(inputs.begin(), inputs.end(), affected)) continue;
    if (weight_of(graph[route.resume].op)) break;
    if (!stays_in_channel(net, route.resume, shapes)) return std::nullopt;
    for (const NodeId input : inputs)
      if (!affected(input)) route.given.push_back(input);
    route.path.push_back(route.resume);
  }
  if (route.resume == graph.size()) return std::nullopt;
  for (const NodeId id : net.live_at(route.resume)) {
    if (route.goes_through(id)) route.changed.push_back(id);
    route.given.push_back(id);
  }
  route.mixing_only = true;
  for (NodeId id = route.resume; id < graph.size(); ++id) {
    const std::vector<NodeId>& inputs = net.inputs(id);
    const bool reads = std::any_of(inputs.begin(), inputs.end(),
                                   [&](NodeId input) { return route.changes(input); });
    if (!reads) continue;
    const std::optional<Conv> own = mixing_conv(graph[id].op);
    route.mixing_only = route.mixing_only && own;
    if (!own) continue;
    route.mixing.push_back({id, *own});
    route.given.push_back(id);
  }
  return route;
}

}  // namespace sentinel
