#include "fault/channel_patch.hpp"

#include <algorithm>

#include "fault/weights.hpp"
#include "sentinel/graph/channels.hpp"
#include "sentinel/graph/profile.hpp"

namespace sentinel {
namespace {

using Shapes = std::vector<std::vector<std::int64_t>>;

bool contains(const std::vector<NodeId>& nodes, NodeId id) {
  return std::binary_search(nodes.begin(), nodes.end(), id);
}

/// Also a Flatten of maps of one pixel; `input`: shape without the batch.
bool stays_in_channel(const Op& op, const std::vector<std::int64_t>& input) {
  if (!std::holds_alternative<Flatten>(op)) return keeps_channels_apart(op);
  return std::all_of(input.begin() + 1, input.end(), [](std::int64_t size) { return size == 1; });
}

at::Tensor one(const at::Tensor& per_channel, std::int64_t channel) {
  return per_channel.defined() && per_channel.dim() > 0 ? per_channel.narrow(0, channel, 1)
                                                        : per_channel;
}

/// The operator on one channel alone.
Op narrowed(const Op& op, std::int64_t channel) {
  if (const auto* bn = std::get_if<BatchNorm>(&op)) {
    BatchNorm single = *bn;
    for (at::Tensor* values : {&single.weight, &single.bias, &single.mean, &single.var})
      *values = one(*values, channel);
    return single;
  }
  if (const auto* relu = std::get_if<BoundedRelu>(&op))
    return BoundedRelu{one(relu->bound, channel), relu->clipping};
  return op;
}

/// One output channel of a convolution by this filter, [N, 1, H, W].
at::Tensor convolve(const Conv& conv, const at::Tensor& x, std::int64_t channel,
                    const at::Tensor& filter) {
  Conv single = conv;
  single.weight = filter;
  single.bias = one(conv.bias, channel);
  single.groups = 1;
  const std::int64_t width = filter.size(1), group = channel / (conv.weight.size(0) / conv.groups);
  return sentinel::apply(single, {conv.groups == 1 ? x : x.narrow(1, group * width, width)});
}

/// index_select that keeps channels_last.
at::Tensor of_images(const at::Tensor& x, const at::Tensor& images) {
  if (x.dim() != 4) return x.index_select(0, images);
  return x.permute({0, 2, 3, 1}).index_select(0, images).permute({0, 3, 1, 2});
}

/// Where two tensors differ in a bit: 0.0 and -0.0 do, equal NaNs do not.
at::Tensor differs(const at::Tensor& a, const at::Tensor& b) {
  return a.view(at::kInt) != b.view(at::kInt);
}

}  // namespace

std::optional<PatchRoute> patch_route(const Graph& graph, NodeId conv) {
  if (!std::holds_alternative<Conv>(graph[conv].op)) return std::nullopt;
  const Shapes shapes = output_shapes(graph);
  PatchRoute route{conv, conv + 1, {conv}, {}, {graph[conv].inputs[0]}};
  for (; route.resume < graph.size(); ++route.resume) {
    const Node& node = graph[route.resume];
    if (weight_of(node.op)) break;
    const auto affected = [&](NodeId input) { return contains(route.path, input); };
    if (std::none_of(node.inputs.begin(), node.inputs.end(), affected)) continue;
    if (!stays_in_channel(node.op, shapes[static_cast<std::size_t>(node.inputs[0])]))
      return std::nullopt;
    for (const NodeId input : node.inputs)
      if (!affected(input)) route.given.push_back(input);
    route.path.push_back(route.resume);
  }
  if (route.resume == graph.size()) return std::nullopt;
  for (const NodeId id : live_at(graph, route.resume)) {
    if (contains(route.path, id)) route.changed.push_back(id);
    route.given.push_back(id);
  }
  return route;
}

ChannelPatcher::ChannelPatcher(const Graph& graph, const PrefixCache& cache)
    : graph_(graph), cache_(cache), clean_(cache.blocks()) {
  for (NodeId id = 0; id < graph.size(); ++id) routes_.push_back(patch_route(graph, id));
}

FilterId ChannelPatcher::filter_of(const FaultSpace& space, const Faults& faults) const {
  const FaultTensor& tensor = space.tensors()[faults.front().tensor];
  if (!routes_[static_cast<std::size_t>(tensor.node)]) return {};
  const std::uint64_t channel = faults.front().element / tensor.row;
  for (const FaultSite& site : faults)
    if (site.tensor != faults.front().tensor || site.element / tensor.row != channel) return {};
  return {tensor.node, static_cast<std::int64_t>(channel)};
}

at::Tensor ChannelPatcher::filter(const FilterId& id) const {
  return std::get<Conv>(graph_[id.conv].op).weight.narrow(0, id.channel, 1).clone();
}

std::vector<at::Tensor> ChannelPatcher::logits(const FilterId& id, const at::Tensor& filter,
                                               std::size_t first, std::size_t last) {
  if (!(clean_of_ == id)) clean_.assign(cache_.blocks(), {});
  clean_of_ = id;
  const PatchRoute& route = *routes_[static_cast<std::size_t>(id.conv)];
  std::vector<at::Tensor> parts;
  for (std::size_t block = first; block < last; ++block)
    parts.push_back(block_logits(block, route, id.channel, filter));
  return parts;
}

/// One channel of the outputs of the route's path.
Trace ChannelPatcher::channel_outputs(const PatchRoute& route, const Trace& given,
                                      std::int64_t channel, const at::Tensor& filter) const {
  Trace outputs(static_cast<std::size_t>(graph_.size()));
  const NodeId x = graph_[route.conv].inputs[0];
  outputs[static_cast<std::size_t>(route.conv)] = convolve(
      std::get<Conv>(graph_[route.conv].op), given[static_cast<std::size_t>(x)], channel, filter);
  for (const NodeId id : route.path) {
    if (id == route.conv) continue;
    std::vector<at::Tensor> inputs;
    for (const NodeId input : graph_[id].inputs) {
      const auto i = static_cast<std::size_t>(input);
      inputs.push_back(contains(route.path, input) ? outputs[i] : given[i].narrow(1, channel, 1));
    }
    outputs[static_cast<std::size_t>(id)] =
        sentinel::apply(narrowed(graph_[id].op, channel), inputs);
  }
  for (const NodeId id : route.path)
    if (!contains(route.changed, id)) outputs[static_cast<std::size_t>(id)] = at::Tensor();
  return outputs;
}

at::Tensor ChannelPatcher::block_logits(std::size_t block, const PatchRoute& route,
                                        std::int64_t channel, const at::Tensor& filter) {
  const Trace given = cache_.outputs(graph_, block, route.conv, route.given);
  Trace& clean = clean_[block];
  if (clean.empty())
    clean = channel_outputs(route, given, channel, this->filter({route.conv, channel}));
  const Trace faulty = channel_outputs(route, given, channel, filter);
  at::Tensor hit = at::zeros({given[static_cast<std::size_t>(route.given[0])].size(0)}, at::kBool);
  for (const NodeId id : route.changed) {
    const auto i = static_cast<std::size_t>(id);
    hit |= differs(faulty[i], clean[i]).flatten(1).any(1);
  }
  at::Tensor images = hit.nonzero().flatten();
  at::Tensor logits = cache_.logits()[block].clone();
  if (images.numel() == 0) return logits;
  // Kernels round alike for any batch but that of one image: it goes twice.
  if (images.numel() == 1 && hit.numel() > 1) images = images.repeat({2});
  Trace trace(given.size());
  for (const NodeId id : live_at(graph_, route.resume)) {
    const auto i = static_cast<std::size_t>(id);
    trace[i] = of_images(given[i], images);
    if (!contains(route.changed, id)) continue;
    const at::Tensor now = of_images(faulty[i], images);
    at::Tensor target = trace[i].narrow(1, channel, 1);
    target.copy_(at::where(differs(now, of_images(clean[i], images)), now, target));
  }
  return logits.index_copy_(0, images, run_lean(graph_, trace, route.resume));
}

}  // namespace sentinel
