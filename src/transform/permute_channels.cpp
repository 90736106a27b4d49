#include "transform/permute_channels.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include "sentinel/core/error.hpp"

namespace sentinel {
namespace {

using Numbers = std::vector<std::int64_t>;

/// Whether all `count` channels stay where they are.
bool unchanged(const Numbers& order, std::int64_t count) {
  if (static_cast<std::int64_t>(order.size()) != count) return false;
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (order[i] != static_cast<std::int64_t>(i)) return false;
  }
  return true;
}

Numbers inverse(const Numbers& order) {
  Numbers result(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    result.at(static_cast<std::size_t>(order[i])) = static_cast<std::int64_t>(i);
  }
  return result;
}

at::Tensor in_order(const at::Tensor& tensor, std::int64_t dim, const Numbers& order) {
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
    const Numbers position = inverse(order.out);
    Numbers rows = order.out;  // copies stay in their places behind the originals
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
  static void reorder_bounds(WeightBounds& bounds, const Numbers& rows) {
    bounds.low = in_order(bounds.low, 0, rows);
    bounds.high = in_order(bounds.high, 0, rows);
  }
  void reorder_conv(Conv& conv, const Numbers& rows) const {
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
  Numbers columns(const Numbers& in, std::int64_t width, std::int64_t groups) const {
    const auto block = static_cast<std::ptrdiff_t>(in.size()) / groups;
    for (std::size_t i = 0; i < in.size(); ++i) {
      const auto number = static_cast<std::int64_t>(i) / block,
                 place = static_cast<std::int64_t>(i) % block;
      if (in[i] != number * width + in[static_cast<std::size_t>(place)])
        throw Bug("the blocks of the grouped convolution " + name + " would read other inputs");
    }
    return Numbers(in.begin(), in.begin() + block);
  }
  /// How many of the input's channels before `channel` stay.
  std::int64_t kept_before(std::int64_t channel) const {
    return std::count_if(order.in.begin(), order.in.end(),
                         [&](std::int64_t kept) { return kept < channel; });
  }
};

void compose(Numbers& origin, const Numbers& order, std::int64_t count) {
  if (unchanged(order, count)) return;
  Numbers composed;
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
void reorder_scales(Graph& graph, const Node& node, Numbers rows) {
  const auto stored = graph.storage.find(node.name + ".weight");
  if (stored == graph.storage.end() || !has_row_scales(stored->second)) return;
  at::Tensor& scale = stored->second.scale;
  if (std::holds_alternative<DuplicatedConv>(node.op))
    while (static_cast<std::int64_t>(rows.size()) < scale.size(0))
      rows.push_back(static_cast<std::int64_t>(rows.size()));
  scale = in_order(scale, 0, rows);
}

}  // namespace

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
