#pragma once
#include <cmath>
#include <string>
#include <vector>

#include "sentinel/core/rng.hpp"
#include "sentinel/fault/trial_engine.hpp"
#include "sentinel/graph/run.hpp"
#include "sentinel/io/dataset.hpp"

/// Small random networks for the fault tests; the same weights on every platform.
namespace sentinel::test {

inline at::Tensor random_tensor(Rng& rng, std::vector<std::int64_t> sizes, double scale = 1,
                                double shift = 0) {
  at::Tensor tensor = at::empty(sizes);
  float* values = tensor.data_ptr<float>();
  for (std::int64_t i = 0; i < tensor.numel(); ++i)
    values[i] = static_cast<float>(shift + scale * rng.normal());
  return tensor;
}

struct Builder {
  Graph graph;
  Rng rng;
  explicit Builder(std::uint64_t seed, Input input = {3, {12, 12}})
      : rng({seed, 0, 0, Purpose::kInitialWeights}) {
    graph.add("input", input, {});
  }
  Conv conv(std::int64_t in, std::int64_t out, std::int64_t kernel, std::int64_t stride,
            bool bias) {
    Conv op;
    op.weight = random_tensor(rng, {out, in, kernel, kernel},
                              std::sqrt(2.0 / static_cast<double>(in * kernel * kernel)));
    if (bias) op.bias = random_tensor(rng, {out}, 0.1);
    op.stride = {stride, stride};
    op.padding = {kernel / 2, kernel / 2};
    return op;
  }
  BatchNorm norm(std::int64_t c) {
    BatchNorm bn;
    bn.weight = random_tensor(rng, {c}, 0.2, 1);
    bn.bias = random_tensor(rng, {c}, 0.2);
    bn.mean = random_tensor(rng, {c}, 0.2);
    bn.var = random_tensor(rng, {c}, 0.2).abs() + 0.5;
    return bn;
  }
  NodeId conv_norm(const std::string& name, NodeId x, std::int64_t in, std::int64_t out,
                   std::int64_t kernel, std::int64_t stride) {
    x = graph.add(name, conv(in, out, kernel, stride, false), {x});
    return graph.add(name + ".bn", norm(out), {x});
  }
  NodeId block(const std::string& name, NodeId x, std::int64_t in, std::int64_t out) {
    const std::int64_t stride = in == out ? 1 : 2;
    NodeId y = conv_norm(name + ".conv1", x, in, out, 3, stride);
    y = graph.add(name + ".relu", Activation{}, {y});
    y = conv_norm(name + ".conv2", y, out, out, 3, 1);
    const NodeId skip = stride == 1 ? x : conv_norm(name + ".downsample", x, in, out, 1, stride);
    y = graph.add(name + ".add", Add{}, {y, skip});
    return graph.add(name + ".relu_1", Activation{}, {y});
  }
  NodeId linear(const std::string& name, NodeId x, std::int64_t in, std::int64_t out) {
    Linear op;
    op.weight = random_tensor(rng, {out, in}, std::sqrt(2.0 / static_cast<double>(in)));
    op.bias = random_tensor(rng, {out}, 0.1);
    return graph.add(name, op, {x});
  }
};

inline Graph residual_net() {
  Builder b(11);
  NodeId x = b.conv_norm("conv1", 0, 3, 8, 3, 1);
  x = b.graph.add("relu", Activation{}, {x});
  x = b.block("layer1.0", x, 8, 8);
  x = b.block("layer2.0", x, 8, 12);
  x = b.graph.add("avgpool", AdaptiveAvgPool{}, {x});
  x = b.graph.add("flatten", Flatten{}, {x});
  b.linear("fc", x, 12, 10);
  return std::move(b.graph);
}

inline Graph plain_net() {
  Builder b(12);
  NodeId x = b.graph.add("features.0", b.conv(3, 8, 3, 1, true), {0});
  x = b.graph.add("features.1", Activation{}, {x});
  x = b.graph.add("features.2", MaxPool{}, {x});
  x = b.graph.add("features.3", b.conv(8, 12, 3, 1, true), {x});
  x = b.graph.add("features.4", Activation{}, {x});
  x = b.graph.add("features.5", MaxPool{}, {x});
  x = b.graph.add("flatten", Flatten{}, {x});
  x = b.linear("classifier.0", x, 12 * 3 * 3, 16);
  x = b.graph.add("classifier.1", Activation{}, {x});
  x = b.graph.add("classifier.2", Dropout{}, {x});
  b.linear("classifier.3", x, 16, 10);
  return std::move(b.graph);
}

/// Depthwise and 1 x 1 convolutions, as in MobileNetV2.
inline Graph pointwise_net() {
  Builder b(17);
  NodeId x = b.conv_norm("conv1", 0, 3, 16, 3, 1);
  x = b.graph.add("relu", Activation{}, {x});
  x = b.conv_norm("expand", x, 16, 48, 1, 1);
  x = b.graph.add("expand.relu", Activation{ActivationKind::kRelu6}, {x});
  Conv depthwise = b.conv(1, 48, 3, 2, false);
  depthwise.groups = 48;
  x = b.graph.add("depthwise", depthwise, {x});
  x = b.graph.add("depthwise.bn", b.norm(48), {x});
  x = b.graph.add("depthwise.relu", Activation{ActivationKind::kRelu6}, {x});
  x = b.conv_norm("project", x, 48, 24, 1, 1);
  x = b.conv_norm("last", x, 24, 32, 1, 1);
  x = b.graph.add("last.relu", Activation{}, {x});
  x = b.graph.add("avgpool", AdaptiveAvgPool{}, {x});
  x = b.graph.add("flatten", Flatten{}, {x});
  b.linear("fc", x, 32, 10);
  return std::move(b.graph);
}

inline Batch random_images(std::int64_t count) {
  Rng rng({13, 0, 0, Purpose::kSynthetic});
  Batch batch;
  batch.images = random_tensor(rng, {count, 3, 12, 12});
  batch.labels = at::empty({count}, at::kLong);
  for (std::int64_t i = 0; i < count; ++i)
    batch.labels.data_ptr<std::int64_t>()[i] = static_cast<std::int64_t>(rng.below(10));
  return batch;
}

inline DuplicatedConv duplicate(const Conv& conv, std::vector<std::int64_t> channels,
                                const at::Tensor& output) {
  DuplicatedConv op;
  op.conv = conv;
  const at::Tensor index = at::tensor(channels);
  op.conv.weight = at::cat({conv.weight, conv.weight.index_select(0, index)});
  if (conv.bias.defined()) op.conv.bias = at::cat({conv.bias, conv.bias.index_select(0, index)});
  const at::Tensor values = output.index_select(1, index).transpose(0, 1).flatten(1);
  op.low = at::amin(values, {1}) - 0.1;
  op.high = at::amax(values, {1}) + 0.1;
  op.duplicated = std::move(channels);
  return op;
}

/// The network with three channels of every convolution duplicated and every ReLU bounded.
inline Graph hardened(const Graph& graph, const at::Tensor& images, bool restricted = true) {
  Graph result = graph.clone();
  Trace trace(static_cast<std::size_t>(graph.size()));
  trace[0] = images;
  run(graph, trace);
  for (NodeId id = 0; id < graph.size(); ++id) {
    const at::Tensor& output = trace[static_cast<std::size_t>(id)];
    if (const auto* conv = std::get_if<Conv>(&graph[id].op))
      result[id].op = duplicate(*conv, {5, 0, 2}, output);
    if (restricted && std::holds_alternative<Activation>(graph[id].op))
      result[id].op = BoundedActivation{output.max() * 1.001, Clipping::kRanger};
  }
  return result;
}

/// Bounds every weight by its extremes, per layer or per row.
inline void bound_weights(Graph& graph, bool per_row) {
  for (NodeId id = 0; id < graph.size(); ++id) {
    WeightBounds* bounds = weight_bounds_of(graph[id].op);
    if (!bounds) continue;
    const Conv* conv = as_conv(graph[id].op);
    const at::Tensor rows =
        (conv ? conv->weight : std::get<Linear>(graph[id].op).weight).flatten(1);
    *bounds = per_row ? WeightBounds{at::amin(rows, 1), at::amax(rows, 1)}
                      : WeightBounds{rows.min(), rows.max()};
  }
}

/// But for the path.
inline bool same_result(const TrialResult& a, const TrialResult& b) {
  return largest_difference(a, b) == 0 && a.first_node == b.first_node && a.path == b.path;
}

}  // namespace sentinel::test
