#include "sentinel/graph/profile.hpp"

#include <numeric>
#include <string_view>

#include "sentinel/core/error.hpp"
#include "sentinel/graph/stored.hpp"
#include "sentinel/graph/visit.hpp"

namespace sentinel {
namespace {

using Shape = std::vector<std::int64_t>;  // {C, H, W} or {C}

[[noreturn]] void mismatch(const Node& node, const std::string& what) {
  throw Bug("layer '" + node.name + "' does not fit its input: " + what);
}

std::int64_t elements(const Shape& shape) {
  return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
}

void require_channels(const Node& node, const Shape& in, std::int64_t expected) {
  if (in.front() == expected) return;
  mismatch(node, "it takes " + std::to_string(expected) + " channels and gets " +
                     std::to_string(in.front()));
}

/// How often a window fits, as LibTorch counts (pooling_output_shape); 0: not once.
std::int64_t windows(std::int64_t in, std::int64_t kernel, std::int64_t stride,
                     std::int64_t padding, std::int64_t dilation, bool ceil) {
  const std::int64_t room =
      in + 2 * padding - dilation * (kernel - 1) - 1 + (ceil ? stride - 1 : 0);
  if (room < 0) return 0;
  const std::int64_t size = room / stride + 1;
  // The last window starts inside the image or its left border.
  return ceil && (size - 1) * stride >= in + padding ? size - 1 : size;
}

/// Shape of `in` after a window slides over its rows and columns.
Shape windowed(const Node& node, const Shape& in, std::int64_t channels, Pair kernel, Pair stride,
               Pair padding, Pair dilation = {1, 1}, bool ceil = false) {
  if (in.size() != 3) mismatch(node, "it needs rows and columns");
  Shape out{channels};
  for (std::size_t i = 0; i < 2; ++i) {
    out.push_back(windows(in[i + 1], kernel[i], stride[i], padding[i], dilation[i], ceil));
    if (out.back() < 1) mismatch(node, "the image is smaller than the window");
  }
  return out;
}

Shape pooled(const Node& node, const Shape& in, Pair kernel, Pair stride, Pair padding, bool ceil) {
  if (2 * padding[0] > kernel[0] || 2 * padding[1] > kernel[1])
    mismatch(node, "its padding is more than half of its window");
  return windowed(node, in, in.front(), kernel, stride, padding, {1, 1}, ceil);
}

Shape conv_shape(const Node& node, const Conv& conv, std::int64_t out, const Shape& in) {
  require_channels(node, in, conv.weight.size(1) * conv.groups);
  return windowed(node, in, out, {conv.weight.size(2), conv.weight.size(3)}, conv.stride,
                  conv.padding, conv.dilation);
}

/// Shape of a node's output from those of its inputs.
struct ShapeRule {
  const Node& node;
  const std::vector<Shape>& in;

  Shape operator()(const Input& op) const { return {op.channels, op.size[0], op.size[1]}; }
  Shape operator()(const Conv& op) const {
    return conv_shape(node, op, op.weight.size(0), in.front());
  }
  Shape operator()(const DuplicatedConv& op) const {
    return conv_shape(node, op.conv, op.out_channels(), in.front());
  }
  Shape operator()(const BatchNorm& op) const {
    require_channels(node, in.front(), op.mean.size(0));
    return in.front();
  }
  Shape operator()(const Activation&) const { return in.front(); }
  Shape operator()(const BoundedActivation& op) const {
    if (op.bound.dim() == 1) require_channels(node, in.front(), op.bound.size(0));
    if (op.bound.dim() == 3 && op.bound.sizes() != at::IntArrayRef(in.front()))
      mismatch(node, "its bounds are for neurons of maps of another size");
    return in.front();
  }
  Shape operator()(const MaxPool& op) const {
    return pooled(node, in.front(), op.kernel, op.stride, op.padding, op.ceil);
  }
  Shape operator()(const AvgPool& op) const {
    return pooled(node, in.front(), op.kernel, op.stride, op.padding, false);
  }
  Shape operator()(const AdaptiveAvgPool& op) const {
    return {in.front().front(), op.size[0], op.size[1]};
  }
  Shape operator()(const Add&) const {
    for (const Shape& shape : in) {
      if (shape != in.front()) mismatch(node, "the inputs of the sum have different shapes");
    }
    return in.front();
  }
  Shape operator()(const Multiply&) const {
    const Shape& gate = in.at(1);
    if (gate.front() != in.front().front() || elements(gate) != gate.front())
      mismatch(node, "the gate is not one number per channel");
    return in.front();
  }
  Shape operator()(const ChannelAffine& op) const {
    require_channels(node, in.front(), static_cast<std::int64_t>(op.scale.size()));
    return in.front();
  }
  Shape operator()(const Concat&) const {
    Shape out = in.front();
    out.front() = 0;
    for (const Shape& shape : in) out.front() += shape.front();
    return out;
  }
  Shape operator()(const Slice& op) const {
    if (op.begin < 0 || op.end <= op.begin || op.end > in.front().front()) {
      mismatch(node, "there are no channels " + std::to_string(op.begin) + " to " +
                         std::to_string(op.end - 1));
    }
    Shape out = in.front();
    out.front() = op.end - op.begin;
    return out;
  }
  Shape operator()(const ChannelShuffle& op) const {
    if (in.front().front() % op.groups != 0) mismatch(node, "the groups do not divide it");
    return in.front();
  }
  Shape operator()(const Flatten&) const { return {elements(in.front())}; }
  Shape operator()(const Linear& op) const {
    require_channels(node, in.front(), op.weight.size(1));
    return {op.weight.size(0)};
  }
  Shape operator()(const Dropout&) const { return in.front(); }
};

bool is_parameter(const Op& op, std::string_view suffix) {
  return !std::holds_alternative<BoundedActivation>(op) && (suffix == "weight" || suffix == "bias");
}

std::int64_t macs(const Op& op, const Shape& out) {
  if (const Conv* conv = as_conv(op)) return conv->weight.numel() * out[1] * out[2];
  if (const auto* linear = std::get_if<Linear>(&op)) return linear->weight.numel();
  return 0;
}

std::int64_t stored_bytes(const Op& op) {
  std::int64_t bytes = 0;
  for_each_tensor(op, [&](const char*, const at::Tensor& t) {
    bytes += t.numel() * static_cast<std::int64_t>(t.element_size());
  });
  if (const auto* conv = std::get_if<DuplicatedConv>(&op)) {
    bytes += static_cast<std::int64_t>(conv->duplicated.size() * sizeof(std::int64_t));
  }
  return bytes;
}

/// Bits of the stored tensors, and what they take in place of fp32 values.
void add_stored(const Graph& graph, ModelCost& cost) {
  std::int64_t weights = 0, weight_bits = 0, fp32_bits = 0;
  for (const StoredTensor& tensor : stored_tensors(graph)) {
    const auto values = static_cast<std::int64_t>(tensor.values);
    const BlockShape shape = block_shape(tensor.layout);
    const bool check = tensor.kind == TensorClass::kCheck;
    const std::int64_t bits =
        values * (check ? shape.check_bits : shape.copies * shape.stored_bits);
    cost.stored_bits += bits;
    if (!check && tensor.kind != TensorClass::kScale) fp32_bits += values * 32;
    if (tensor.kind == TensorClass::kWeight) weights += values;
    const bool of_weight = check && tensor.name.find(".weight.check") != std::string::npos;
    if (tensor.kind == TensorClass::kWeight || of_weight) weight_bits += bits;
  }
  cost.memory_bytes = (8 * cost.memory_bytes + cost.stored_bits - fp32_bits + 7) / 8;
  if (weights > 0)
    cost.bits_per_weight = static_cast<double>(weight_bits) / static_cast<double>(weights);
}

}  // namespace

std::vector<std::vector<std::int64_t>> output_shapes(const Graph& graph) {
  std::vector<Shape> shapes;
  for (const Node& node : graph.nodes()) {
    std::vector<Shape> in;
    for (const NodeId input : node.inputs) in.push_back(shapes[static_cast<std::size_t>(input)]);
    shapes.push_back(std::visit(ShapeRule{node, in}, node.op));
  }
  return shapes;
}

ModelCost model_cost(const Graph& graph) {
  ModelCost cost;
  const auto shapes = output_shapes(graph);
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    const Node& node = graph.nodes()[i];
    LayerCost layer;
    layer.name = node.name;
    for_each_tensor(node.op, [&](const char* suffix, const at::Tensor& t) {
      if (is_parameter(node.op, suffix)) layer.parameters += t.numel();
    });
    layer.macs = macs(node.op, shapes[i]);
    layer.activations = elements(shapes[i]);
    cost.parameters += layer.parameters;
    cost.macs += layer.macs;
    cost.memory_bytes += stored_bytes(node.op);
    cost.layers.push_back(std::move(layer));
  }
  add_stored(graph, cost);
  return cost;
}

std::vector<std::int64_t> channel_counts(const Graph& graph) {
  std::vector<std::int64_t> counts;
  for (const auto& shape : output_shapes(graph)) counts.push_back(shape.front());
  return counts;
}

std::int64_t class_count(const Graph& graph) {
  return channel_counts(graph).back();
}

}  // namespace sentinel
