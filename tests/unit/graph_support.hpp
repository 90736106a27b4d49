#pragma once
#include <string>
#include <utility>

#include "sentinel/graph/graph.hpp"

namespace sentinel::test {

inline at::Tensor values(at::IntArrayRef shape) {
  return at::randn(shape, at::kFloat);
}

inline Conv conv(std::int64_t out, std::int64_t in, std::int64_t kernel = 3,
                 std::int64_t stride = 1, std::int64_t groups = 1, bool bias = false) {
  Conv op;
  op.weight = values({out, in / groups, kernel, kernel}) * 0.3;
  if (bias) op.bias = values({out});
  op.stride = {stride, stride};
  op.padding = {kernel / 2, kernel / 2};
  op.groups = groups;
  return op;
}

inline BatchNorm batch_norm(std::int64_t channels) {
  BatchNorm op;
  op.weight = values({channels}) + 1.5;
  op.bias = values({channels});
  op.mean = values({channels});
  op.var = at::rand({channels}, at::kFloat) + 0.5;
  op.batches_tracked = at::zeros({}, at::kLong);
  return op;
}

inline Linear linear(std::int64_t out, std::int64_t in) {
  return {values({out, in}) * 0.2, values({out})};
}

/// A convolution with exact copies of some channels and an interval that never matters.
inline DuplicatedConv duplicated(Conv plain, std::vector<std::int64_t> channels,
                                 Correction correction = Correction::kRange) {
  DuplicatedConv op;
  const at::Tensor index = at::tensor(channels);
  op.conv = std::move(plain);
  op.conv.weight = at::cat({op.conv.weight, op.conv.weight.index_select(0, index)});
  if (op.conv.bias.defined()) {
    op.conv.bias = at::cat({op.conv.bias, op.conv.bias.index_select(0, index)});
  }
  op.correction = correction;
  if (correction == Correction::kRange) {
    op.low = at::full({index.numel()}, -1e30, at::kFloat);
    op.high = at::full({index.numel()}, 1e30, at::kFloat);
  }
  op.duplicated = std::move(channels);
  return op;
}

/// Stem, two residual blocks (the second with a projection), every kind of ReLU, pooling, logits.
inline Graph residual_graph() {
  Graph g;
  NodeId x = g.add("x", Input{3, {8, 8}}, {});
  x = g.add("conv1", conv(6, 3), {x});
  x = g.add("bn1", batch_norm(6), {x});
  NodeId skip = g.add("relu", Activation{}, {x});
  x = g.add("a.conv1", conv(4, 6, 3, 1, 1, true), {skip});
  x = g.add("a.bn1", batch_norm(4), {x});
  x = g.add("a.relu", BoundedActivation{at::scalar_tensor(2.0, at::kFloat), Clipping::kRanger},
            {x});
  x = g.add("a.conv2", duplicated(conv(6, 4, 3, 1, 1, true), {4, 1}), {x});
  x = g.add("a.bn2", batch_norm(6), {x});
  x = g.add("a.add", Add{}, {x, skip});
  const NodeId in =
      g.add("a.relu_1", BoundedActivation{at::rand({6}) + 1, Clipping::kRangerClamp}, {x});
  x = g.add("b.conv1", duplicated(conv(8, 6, 3, 2), {0}, Correction::kMin), {in});
  x = g.add("b.bn1", batch_norm(8), {x});
  skip = g.add("b.downsample.0", conv(8, 6, 1, 2), {in});
  skip = g.add("b.downsample.1", batch_norm(8), {skip});
  x = g.add("b.add", Add{}, {x, skip});
  x = g.add("b.relu_1", Activation{}, {x});
  x = g.add("avgpool", AdaptiveAvgPool{}, {x});
  x = g.add("flatten", Flatten{}, {x});
  x = g.add("dropout", Dropout{}, {x});
  g.add("fc", linear(5, 8), {x});
  return g;
}

/// A bottleneck of grouped convolutions with squeeze and excitation, as in ResNeXt and RegNet; two
/// grouped convolutions in a row with other blocks, flatten h*w.
inline Graph grouped_graph() {
  Graph g;
  NodeId x = g.add("x", Input{3, {8, 8}}, {});
  const NodeId stem = g.add("stem", conv(6, 3), {x});
  x = g.add("a", conv(20, 6, 1), {stem});
  x = g.add("a_bn", batch_norm(20), {x});
  x = g.add("a_relu", Activation{}, {x});
  x = g.add("b", conv(20, 20, 3, 2, 2, true), {x});
  x = g.add("b_bn", batch_norm(20), {x});
  x = g.add("b_silu", Activation{ActivationKind::kSilu}, {x});
  NodeId gate = g.add("pool", AdaptiveAvgPool{}, {x});
  gate = g.add("gate", conv(20, 20, 1, 1, 1, true), {gate});
  gate = g.add("sigmoid", Activation{ActivationKind::kSigmoid}, {gate});
  x = g.add("gated", Multiply{}, {x, gate});
  x = g.add("c", conv(6, 20, 1), {x});
  x = g.add("add", Add{}, {x, g.add("skip", conv(6, 6, 1, 2), {stem})});
  x = g.add("d", conv(30, 6, 1), {x});
  x = g.add("e", conv(30, 30, 3, 1, 3), {x});
  x = g.add("f", conv(20, 30, 3, 2, 2), {x});
  x = g.add("flatten", Flatten{}, {x});
  g.add("fc", linear(4, 80), {x});
  return g;
}

/// Slices, shuffle, depthwise convolution, concat of three (one read twice), pools, flatten h*w.
inline Graph concat_graph(std::int64_t groups = 2) {
  Graph g;
  NodeId x = g.add("x", Input{4, {8, 8}}, {});
  x = g.add("stem", conv(8, 4, 3, 1, 1, true), {x});
  const NodeId left = g.add("left", Slice{0, 4}, {x});
  const NodeId right = g.add("right", Slice{4, 8}, {x});
  NodeId r = g.add("depthwise", conv(4, 4, 3, 1, 4), {right});
  r = g.add("depthwise_relu", Activation{}, {r});
  NodeId l = g.add("left_relu", Activation{}, {left});
  x = g.add("cat", Concat{}, {l, r, l});
  x = g.add("shuffle", ChannelShuffle{2}, {x});
  x = g.add("bn", batch_norm(12), {x});
  x = g.add("relu", Activation{}, {x});
  x = g.add("max", MaxPool{}, {x});
  x = g.add("mean", AvgPool{}, {x});
  x = g.add("grouped", conv(6, 12, 1, 1, groups), {x});
  x = g.add("flatten", Flatten{}, {x});
  x = g.add("flat_relu", Activation{}, {x});
  x = g.add("fc1", linear(7, 24), {x});
  x = g.add("fc1_relu", Activation{}, {x});
  g.add("fc2", linear(3, 7), {x});
  return g;
}

inline bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  if (a.sizes() != b.sizes() || a.dtype() != b.dtype()) return false;
  const at::Tensor x = a.contiguous(), y = b.contiguous();
  return std::memcmp(x.data_ptr(), y.data_ptr(), x.nbytes()) == 0;
}

}  // namespace sentinel::test
