#include "protect/reorder.hpp"

#include <utility>

#include "sentinel/core/error.hpp"

namespace sentinel {
namespace {

using Numbers = std::vector<std::int64_t>;

bool unchanged(const Numbers& order) {
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

at::Tensor select(const at::Tensor& tensor, std::int64_t dim, const Numbers& order) {
  if (!tensor.defined() || tensor.dim() == 0) return tensor;
  const auto index = at::tensor(order, at::TensorOptions(at::kLong)).to(tensor.device());
  return tensor.index_select(dim, index);
}

struct Reorder {
  const NodeOrder& order;
  const std::string& name;

  void operator()(Conv& conv) const { reorder_conv(conv, order.out); }
  void operator()(DuplicatedConv& op) const {
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
      *tensor = select(*tensor, 0, order.out);
    }
  }
  void operator()(BoundedRelu& op) const { op.bound = select(op.bound, 0, order.out); }
  void operator()(Linear& op) const {
    op.weight = select(select(op.weight, 0, order.out), 1, order.in);
    op.bias = select(op.bias, 0, order.out);
    reorder_bounds(op.bounds, order.out);
  }
  // Nothing in these is indexed by channels.
  void operator()(Input&) const {}
  void operator()(Relu&) const {}
  void operator()(MaxPool&) const {}
  void operator()(AvgPool&) const {}
  void operator()(AdaptiveAvgPool&) const {}
  void operator()(Add&) const {}
  void operator()(Concat&) const {}
  void operator()(Slice&) const {}
  void operator()(ChannelShuffle&) const {}
  void operator()(Flatten&) const {}
  void operator()(Dropout&) const {}

 private:
  static void reorder_bounds(WeightBounds& bounds, const Numbers& rows) {
    bounds.low = select(bounds.low, 0, rows);
    bounds.high = select(bounds.high, 0, rows);
  }
  void reorder_conv(Conv& conv, const Numbers& rows) const {
    const bool depthwise = conv.groups > 1 && conv.weight.size(1) == 1;
    if (conv.groups > 1 && !depthwise) {
      throw Bug("channels of the grouped convolution " + name + " cannot be sorted");
    }
    conv.weight = select(conv.weight, 0, rows);
    if (!depthwise) conv.weight = select(conv.weight, 1, order.in);
    conv.bias = select(conv.bias, 0, rows);
    reorder_bounds(conv.bounds, rows);
  }
};

void compose(Numbers& origin, const Numbers& order) {
  if (unchanged(order)) return;
  Numbers composed;
  for (std::int64_t i : order) {
    composed.push_back(origin.empty() ? i : origin.at(static_cast<std::size_t>(i)));
  }
  origin = std::move(composed);
}

}  // namespace

void reorder(Graph& graph, NodeId id, const NodeOrder& order) {
  if (unchanged(order.out) && unchanged(order.in)) return;
  Node& node = graph[id];
  std::visit(Reorder{order, node.name}, node.op);
  if (!as_conv(node.op) && !std::holds_alternative<Linear>(node.op)) return;
  ChannelOrigin& origin = graph.origin[node.name];
  compose(origin.out, order.out);
  compose(origin.in, order.in);
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
