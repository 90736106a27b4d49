#include "sentinel/graph/channels.hpp"

#include <algorithm>
#include <numeric>
#include <optional>
#include <utility>

#include "sentinel/core/error.hpp"
#include "sentinel/graph/visit.hpp"

namespace sentinel {
namespace {

using Channels = std::vector<std::int64_t>;

ChannelMap one_to_one(Channels source) {
  ChannelMap map;
  map.source = std::move(source);
  return map;
}

/// Output channel o reads input channel o / copies.
ChannelMap repeated(std::int64_t out, std::int64_t copies) {
  Channels source(static_cast<std::size_t>(out));
  for (std::size_t o = 0; o < source.size(); ++o) {
    source[o] = static_cast<std::int64_t>(o) / copies;
  }
  return one_to_one(std::move(source));
}

ChannelMap mixing(std::int64_t groups) {
  ChannelMap map;
  map.mixing = true;
  map.groups = groups;
  return map;
}

ChannelMap conv_map(const Conv& conv, std::int64_t out) {
  if (conv.groups > 1 && conv.weight.size(1) == 1) return repeated(out, out / conv.groups);
  return mixing(conv.groups);
}

ChannelMap shuffle_map(std::int64_t channels, std::int64_t groups) {
  Channels source(static_cast<std::size_t>(channels));
  for (std::int64_t o = 0; o < channels; ++o) {
    source[static_cast<std::size_t>(o)] = (o % groups) * (channels / groups) + o / groups;
  }
  return one_to_one(std::move(source));
}

std::vector<ChannelMap> concat_maps(const Channels& in, std::int64_t out) {
  std::vector<ChannelMap> maps;
  std::int64_t begin = 0;
  for (const std::int64_t channels : in) {
    Channels source(static_cast<std::size_t>(out), -1);
    std::iota(source.begin() + begin, source.begin() + begin + channels, 0);
    maps.push_back(one_to_one(std::move(source)));
    begin += channels;
  }
  return maps;
}

/// Blocks of `channels` that hold one of `chosen`, and all channels of the same blocks of `others`.
Channels whole_blocks(const Channels& chosen, std::int64_t channels, std::int64_t others,
                      std::int64_t groups) {
  std::vector<bool> hit(static_cast<std::size_t>(groups), false);
  for (const std::int64_t c : chosen) hit[static_cast<std::size_t>(c / (channels / groups))] = true;
  Channels result;
  for (std::int64_t c = 0; c < others; ++c) {
    if (hit[static_cast<std::size_t>(c / (others / groups))]) result.push_back(c);
  }
  return result;
}

// ---- channels in another order ----

/// Whether all `count` channels stay where they are.
bool unchanged(const Channels& order, std::int64_t count) {
  if (static_cast<std::int64_t>(order.size()) != count) return false;
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (order[i] != static_cast<std::int64_t>(i)) return false;
  }
  return true;
}

Channels inverse(const Channels& order) {
  Channels result(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    result.at(static_cast<std::size_t>(order[i])) = static_cast<std::int64_t>(i);
  }
  return result;
}

at::Tensor in_order(const at::Tensor& tensor, std::int64_t dim, const Channels& order) {
  if (!tensor.defined() || tensor.dim() == 0) return tensor;
  if (unchanged(order, tensor.size(dim))) return tensor;
  const auto index = at::tensor(order, at::TensorOptions(at::kLong)).to(tensor.device());
  return tensor.index_select(dim, index);
}

bool is_depthwise(const Conv& conv) {
  return conv.groups > 1 && conv.weight.size(1) == 1;
}

struct Reorder {
  const NodeOrder& order;
  const std::string& name;

  void operator()(Conv& conv) const { reorder_conv(conv, order.out); }
  void operator()(DuplicatedConv& op) const {
    if (static_cast<std::int64_t>(order.out.size()) != op.out_channels()) {
      throw Bug("channels of the hardened layer " + name + " cannot be removed");
    }
    const Channels position = inverse(order.out);
    Channels rows = order.out;  // copies stay in their places behind the originals
    bool leading = true;
    for (std::size_t k = 0; k < op.duplicated.size(); ++k) {
      std::int64_t& channel = op.duplicated[k];
      channel = position.at(static_cast<std::size_t>(channel));
      leading = leading && channel == static_cast<std::int64_t>(k);
      rows.push_back(static_cast<std::int64_t>(rows.size()));
    }
    // The seed tool's file layout can only hold the first channels as duplicated ones.
    if (!leading) op.layout = RowLayout::kOwn;
    reorder_conv(op.conv, rows);
  }
  void operator()(BatchNorm& op) const {
    for (at::Tensor* tensor : {&op.weight, &op.bias, &op.mean, &op.var}) {
      *tensor = in_order(*tensor, 0, order.out);
    }
  }
  void operator()(BoundedActivation& op) const {
    op.bound = in_order(op.bound, 0, order.out);
    op.low = in_order(op.low, 0, order.out);
  }
  void operator()(Linear& op) const {
    op.weight = in_order(in_order(op.weight, 0, order.out), 1, order.in);
    op.bias = in_order(op.bias, 0, order.out);
    reorder_bounds(op.bounds, order.out);
  }
  void operator()(ChannelAffine& op) const {
    const ChannelAffine old = op;
    op.scale.clear();
    op.shift.clear();
    for (const std::int64_t channel : order.out) {
      op.scale.push_back(old.scale.at(static_cast<std::size_t>(channel)));
      op.shift.push_back(old.shift.at(static_cast<std::size_t>(channel)));
    }
  }
  void operator()(Slice& op) const {
    op.begin = kept_before(op.begin);
    op.end = kept_before(op.end);
  }
  // Nothing in these is indexed by channels.
  void operator()(Input&) const {}
  void operator()(Activation&) const {}
  void operator()(MaxPool&) const {}
  void operator()(AvgPool&) const {}
  void operator()(AdaptiveAvgPool&) const {}
  void operator()(Add&) const {}
  void operator()(Multiply&) const {}
  void operator()(Concat&) const {}
  void operator()(ChannelShuffle&) const {}
  void operator()(Flatten&) const {}
  void operator()(Dropout&) const {}

 private:
  static void reorder_bounds(WeightBounds& bounds, const Channels& rows) {
    bounds.low = in_order(bounds.low, 0, rows);
    bounds.high = in_order(bounds.high, 0, rows);
  }
  void reorder_conv(Conv& conv, const Channels& rows) const {
    const std::int64_t old_rows = conv.weight.size(0), old_columns = conv.weight.size(1);
    conv.weight = in_order(conv.weight, 0, rows);
    if (is_depthwise(conv)) {
      conv.groups = conv.weight.size(0) * conv.groups / old_rows;
    } else {
      conv.weight = in_order(conv.weight, 1, columns(order.in, old_columns, conv.groups));
    }
    conv.bias = in_order(conv.bias, 0, rows);
    reorder_bounds(conv.bounds, rows);
  }
  /// The inputs of one block, of which every other takes those in the same places.
  Channels columns(const Channels& in, std::int64_t width, std::int64_t groups) const {
    const auto block = static_cast<std::ptrdiff_t>(in.size()) / groups;
    for (std::size_t i = 0; i < in.size(); ++i) {
      const auto number = static_cast<std::int64_t>(i) / block,
                 place = static_cast<std::int64_t>(i) % block;
      if (in[i] != number * width + in[static_cast<std::size_t>(place)])
        throw Bug("the blocks of the grouped convolution " + name + " would read other inputs");
    }
    return Channels(in.begin(), in.begin() + block);
  }
  /// How many of the input's channels before `channel` stay.
  std::int64_t kept_before(std::int64_t channel) const {
    return std::count_if(order.in.begin(), order.in.end(),
                         [&](std::int64_t kept) { return kept < channel; });
  }
};

void compose(Channels& origin, const Channels& order, std::int64_t count) {
  if (unchanged(order, count)) return;
  Channels composed;
  for (std::int64_t i : order) {
    composed.push_back(origin.empty() ? i : origin.at(static_cast<std::size_t>(i)));
  }
  origin = std::move(composed);
}

/// Channels of a convolution or linear layer on one side; nothing for other operators.
struct Widths {
  std::int64_t out = 0, in = 0;
};
std::optional<Widths> widths_of(const Op& op) {
  if (const Conv* conv = as_conv(op))
    return Widths{out_channels_of(op), conv->weight.size(1) * conv->groups};
  const auto* linear = std::get_if<Linear>(&op);
  if (!linear) return std::nullopt;
  return Widths{out_channels_of(op), linear->weight.size(1)};
}

/// The scales of the weight's rows go with them; copies stay behind the originals.
void reorder_scales(Graph& graph, const Node& node, Channels rows) {
  const auto stored = graph.storage.find(node.name + ".weight");
  if (stored == graph.storage.end() || !has_row_scales(stored->second)) return;
  at::Tensor& scale = stored->second.scale;
  if (std::holds_alternative<DuplicatedConv>(node.op))
    while (static_cast<std::int64_t>(rows.size()) < scale.size(0))
      rows.push_back(static_cast<std::int64_t>(rows.size()));
  scale = in_order(scale, 0, rows);
}

}  // namespace

std::vector<ChannelMap> channel_maps(const Op& op, const std::vector<std::int64_t>& in_channels,
                                     std::int64_t out_channels) {
  using Maps = std::vector<ChannelMap>;
  const auto same = [&] { return Maps(in_channels.size(), repeated(out_channels, 1)); };
  return std::visit(
      Overloaded{
          [](const Input&) { return Maps{}; },
          [&](const Conv& conv) { return Maps{conv_map(conv, out_channels)}; },
          [&](const DuplicatedConv& conv) { return Maps{conv_map(conv.conv, out_channels)}; },
          [&](const BatchNorm&) { return same(); },
          [&](const Activation&) { return same(); },
          [&](const BoundedActivation&) { return same(); },
          [&](const MaxPool&) { return same(); },
          [&](const AvgPool&) { return same(); },
          [&](const AdaptiveAvgPool&) { return same(); },
          [&](const Add&) { return same(); },
          [&](const Multiply&) { return same(); },
          [&](const ChannelAffine&) { return same(); },
          [&](const Concat&) { return concat_maps(in_channels, out_channels); },
          [&](const Slice& slice) {
            Channels source(static_cast<std::size_t>(out_channels));
            std::iota(source.begin(), source.end(), slice.begin);
            return Maps{one_to_one(std::move(source))};
          },
          [&](const ChannelShuffle& op_) { return Maps{shuffle_map(out_channels, op_.groups)}; },
          [&](const Flatten&) {
            return Maps{repeated(out_channels, out_channels / in_channels.at(0))};
          },
          [](const Linear&) { return Maps{mixing(1)}; },
          [&](const Dropout&) { return same(); },
      },
      op);
}

bool keeps_channels_apart(const Op& op) {
  return std::visit(Overloaded{
                        [](const Input&) { return false; },
                        [](const Conv&) { return false; },
                        [](const DuplicatedConv&) { return false; },
                        [](const BatchNorm&) { return true; },
                        [](const Activation&) { return true; },
                        [](const BoundedActivation&) { return true; },
                        [](const MaxPool&) { return true; },
                        [](const AvgPool&) { return true; },
                        [](const AdaptiveAvgPool&) { return true; },
                        [](const Add&) { return true; },
                        [](const Multiply&) { return true; },
                        [](const ChannelAffine&) { return true; },
                        [](const Concat&) { return false; },
                        [](const Slice&) { return false; },
                        [](const ChannelShuffle&) { return false; },
                        [](const Flatten&) { return false; },
                        [](const Linear&) { return false; },
                        [](const Dropout&) { return true; },
                    },
                    op);
}

std::vector<ChannelMap> channel_maps(const Graph& graph, const std::vector<std::int64_t>& counts,
                                     NodeId id) {
  Channels in;
  for (const NodeId input : graph[id].inputs) in.push_back(counts[static_cast<std::size_t>(input)]);
  return channel_maps(graph[id].op, in, counts[static_cast<std::size_t>(id)]);
}

std::vector<std::int64_t> sources_of(const ChannelMap& map, const std::vector<std::int64_t>& out,
                                     std::int64_t in_channels, std::int64_t out_channels) {
  if (map.mixing) return whole_blocks(out, out_channels, in_channels, map.groups);
  Channels sources;
  for (const std::int64_t o : out) {
    const std::int64_t source = map.source.at(static_cast<std::size_t>(o));
    if (source >= 0) sources.push_back(source);
  }
  std::sort(sources.begin(), sources.end());
  sources.erase(std::unique(sources.begin(), sources.end()), sources.end());
  return sources;
}

std::vector<std::int64_t> readers_of(const ChannelMap& map, const std::vector<std::int64_t>& in,
                                     std::int64_t in_channels, std::int64_t out_channels) {
  if (map.mixing) return whole_blocks(in, in_channels, out_channels, map.groups);
  std::vector<bool> chosen(static_cast<std::size_t>(in_channels), false);
  for (const std::int64_t c : in) chosen.at(static_cast<std::size_t>(c)) = true;
  Channels readers;
  for (std::int64_t o = 0; o < out_channels; ++o) {
    const std::int64_t source = map.source[static_cast<std::size_t>(o)];
    if (source >= 0 && chosen[static_cast<std::size_t>(source)]) readers.push_back(o);
  }
  return readers;
}

void reorder(Graph& graph, NodeId id, const NodeOrder& order) {
  Node& node = graph[id];
  const auto before = widths_of(node.op);
  const Conv* conv = as_conv(node.op);
  const bool depthwise = conv && is_depthwise(*conv);
  std::visit(Reorder{order, node.name}, node.op);
  if (!before) return;
  reorder_scales(graph, node, order.out);
  ChannelOrigin& origin = graph.origin[node.name];
  compose(origin.out, order.out, before->out);
  // The inputs of a depthwise convolution go with its outputs. One that was grouped still says
  // which input of its block it kept, the same in every block.
  if (!depthwise) compose(origin.in, order.in, before->in);
  if (depthwise && !origin.in.empty()) origin.in.resize(static_cast<std::size_t>(conv->groups));
  if (origin.out.empty() && origin.in.empty()) graph.origin.erase(node.name);
}

Graph reordered(const Graph& graph, const std::vector<NodeOrder>& orders) {
  Graph result = graph.clone();
  for (NodeId id = 0; id < result.size(); ++id) {
    reorder(result, id, orders.at(static_cast<std::size_t>(id)));
  }
  return result;
}

}  // namespace sentinel
