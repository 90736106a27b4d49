#pragma once
#include <ATen/core/grad_mode.h>

#include "sentinel/transform/vulnerability.hpp"
#include "unit/transform_support.hpp"

/// What the tests of deepvigor and of its cache share.
namespace sentinel::test {

inline Dataset noise(std::array<std::int64_t, 3> shape, std::int64_t count, std::uint64_t seed) {
  DatasetInfo info;
  info.name = "noise";
  info.shape = shape;
  for (std::size_t c = 0; c < 3; ++c) {
    info.mean[c] = 0.5;
    info.std[c] = 0.25;
  }
  Rng rng({seed, 0, 0, Purpose::kSynthetic});
  std::vector<std::uint8_t> pixels(
      static_cast<std::size_t>(count * shape[0] * shape[1] * shape[2]));
  for (auto& pixel : pixels) pixel = static_cast<std::uint8_t>(rng.below(256));
  return Dataset(info, std::move(pixels),
                 std::vector<std::int64_t>(static_cast<std::size_t>(count)));
}

/// The network with classes about equally frequent: random ones know but one class, which no shift
/// changes.
inline Graph balanced(Graph graph, const Dataset& images) {
  const at::NoGradGuard no_grad;
  const at::Tensor all = logits(graph, images.batch(0, images.size(), {}).images);
  std::get<Linear>(graph[graph.size() - 1].op).bias -= all.mean(0);
  return graph;
}

/// Grouped and depthwise convolutions, kernels, strides and dilations that are not square, copies,
/// every kind of bound.
inline Graph grouped_net() {
  Graph g;
  NodeId x = g.add("x", Input{3, {9, 7}}, {});
  x = g.add("stem", conv(8, 3, 3, 1, 1, true), {x});
  x = g.add("stem.relu", Activation{}, {x});
  Conv wide;
  wide.weight = values({6, 4, 3, 2}) * 0.3;
  wide.groups = 2;
  wide.stride = {2, 1};
  wide.padding = {1, 0};
  wide.dilation = {1, 2};
  wide.bounds = {wide.weight.min(), wide.weight.max()};
  x = g.add("wide", wide, {x});
  x = g.add("wide.bn", batch_norm(6), {x});
  x = g.add("wide.relu", BoundedActivation{at::rand({6}) + 1, Clipping::kRangerClamp}, {x});
  Conv depthwise;
  depthwise.weight = values({6, 1, 2, 3}) * 0.5;
  depthwise.groups = 6;
  depthwise.padding = {1, 2};
  depthwise.dilation = {2, 1};
  const at::Tensor rows = depthwise.weight.flatten(1);
  depthwise.bounds = {at::amin(rows, 1), at::amax(rows, 1)};
  x = g.add("depthwise", depthwise, {x});
  x = g.add("depthwise.relu", BoundedActivation{at::scalar_tensor(1.5F), Clipping::kRanger}, {x});
  x = g.add("copied", duplicated(conv(4, 6, 3, 1, 2, true), {3, 1}), {x});
  x = g.add("copied.relu", Activation{}, {x});
  x = g.add("pool", AdaptiveAvgPool{{2, 2}}, {x});
  x = g.add("flatten", Flatten{}, {x});
  g.add("fc", linear(5, 16), {x});
  return g;
}

inline ChannelScores scores_of(const Graph& graph, const Dataset& images, bool all_positions,
                               std::uint64_t seed = 1, const std::string& model = {},
                               const std::string& cache = {}) {
  ImportanceInputs inputs{graph};
  inputs.images = &images;
  inputs.seed = seed;
  inputs.model_sha256 = model;
  inputs.deepvigor.all_positions = all_positions;
  inputs.deepvigor.cache = cache;
  return importance_method("deepvigor")->score(inputs);
}

inline std::vector<std::vector<double>> numbers(const ChannelScores& scores) {
  std::vector<std::vector<double>> all;
  for (const auto& layer : scores) all.push_back(layer.scores);
  return all;
}

inline VulnerabilityFile factors(const Graph& graph, const Dataset& images,
                                 const FactorOptions& options) {
  const FactorInputs inputs{graph, images, Comm::local(), at::kCPU, "sha"};
  return vulnerability_factors(inputs, options);
}

}  // namespace sentinel::test
