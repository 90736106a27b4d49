#pragma once
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "sentinel/graph/run.hpp"
#include "sentinel/io/dataset.hpp"
#include "sentinel/transform/importance.hpp"
#include "unit/graph_support.hpp"

namespace sentinel::test {

/// Stem, a block with identity shortcut, a block with projection shortcut, logits; nothing
/// hardened.
inline Graph plain_residual() {
  Graph g;
  NodeId x = g.add("x", Input{3, {8, 8}}, {});
  x = g.add("conv1", conv(6, 3), {x});
  x = g.add("bn1", batch_norm(6), {x});
  const NodeId stem = g.add("relu", Activation{}, {x});
  x = g.add("layer1.0.conv1", conv(5, 6), {stem});
  x = g.add("layer1.0.bn1", batch_norm(5), {x});
  x = g.add("layer1.0.relu", Activation{}, {x});
  x = g.add("layer1.0.conv2", conv(6, 5), {x});
  x = g.add("layer1.0.bn2", batch_norm(6), {x});
  x = g.add("layer1.0.add", Add{}, {x, stem});
  const NodeId in = g.add("layer1.0.relu_1", Activation{}, {x});
  // Executed before conv2 although its weight comes later in the state_dict.
  NodeId skip = g.add("layer2.0.downsample.0", conv(8, 6, 1, 2), {in});
  skip = g.add("layer2.0.downsample.1", batch_norm(8), {skip});
  x = g.add("layer2.0.conv1", conv(7, 6, 3, 2), {in});
  x = g.add("layer2.0.bn1", batch_norm(7), {x});
  x = g.add("layer2.0.relu", Activation{}, {x});
  x = g.add("layer2.0.conv2", conv(8, 7), {x});
  x = g.add("layer2.0.bn2", batch_norm(8), {x});
  x = g.add("layer2.0.add", Add{}, {x, skip});
  x = g.add("layer2.0.relu_1", Activation{}, {x});
  x = g.add("avgpool", AdaptiveAvgPool{}, {x});
  x = g.add("flatten", Flatten{}, {x});
  g.add("fc", linear(4, 8), {x});
  g.state_order = {"conv1.weight",
                   "layer1.0.conv1.weight",
                   "layer1.0.conv2.weight",
                   "layer2.0.conv1.weight",
                   "layer2.0.conv2.weight",
                   "layer2.0.downsample.0.weight",
                   "fc.weight"};
  return g;
}

/// Convolutions with bias, a flatten over 2x2 positions, a hidden linear layer, dropout.
inline Graph vgg_like() {
  Graph g;
  NodeId x = g.add("x", Input{3, {8, 8}}, {});
  x = g.add("features.0", conv(6, 3, 3, 1, 1, true), {x});
  x = g.add("features.1", batch_norm(6), {x});
  x = g.add("features.2", Activation{}, {x});
  x = g.add("features.3", MaxPool{}, {x});
  x = g.add("features.4", conv(8, 6, 3, 1, 1, true), {x});
  x = g.add("features.5", batch_norm(8), {x});
  x = g.add("features.6", Activation{}, {x});
  x = g.add("features.7", MaxPool{}, {x});
  x = g.add("flatten", Flatten{}, {x});
  x = g.add("classifier.0", linear(10, 32), {x});
  x = g.add("classifier.1", Activation{}, {x});
  x = g.add("classifier.2", Dropout{0.5}, {x});
  g.add("classifier.3", linear(4, 10), {x});
  return g;
}

/// Images 3x8x8 of four classes: a bright quadrant on noise.
inline Dataset quadrants(std::int64_t count, std::uint64_t seed) {
  DatasetInfo info;
  info.name = "quadrants";
  info.classes = 4;
  info.shape = {3, 8, 8};
  info.mean = {0.4, 0.4, 0.4};
  info.std = {0.25, 0.25, 0.25};
  Rng rng({seed, 0, 0, Purpose::kSynthetic});
  std::vector<std::uint8_t> pixels;
  std::vector<std::int64_t> labels;
  for (std::int64_t n = 0; n < count; ++n) {
    const auto label = static_cast<std::int64_t>(rng.below(4));
    labels.push_back(label);
    for (std::int64_t i = 0; i < 3 * 64; ++i) {
      const bool bright = (i / 8 % 8 >= 4) == (label >= 2) && (i % 8 >= 4) == (label % 2 == 1);
      pixels.push_back(static_cast<std::uint8_t>(rng.below(128) + (bright ? 127 : 0)));
    }
  }
  return Dataset(info, std::move(pixels), std::move(labels));
}

/// Scores unrelated to the weights.
inline ChannelScores random_scores(const Graph& graph, std::uint64_t seed) {
  Rng rng({seed, 0, 0, Purpose::kSynthetic});
  auto scores = importance_method("l2-norm")->score({graph});
  for (auto& layer : scores) {
    for (double& score : layer.scores) score = rng.uniform();
  }
  return scores;
}

/// Largest difference relative to the largest logit.
inline double relative_difference(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).abs().max() / a.abs().max()).item<double>();
}

inline std::string data_folder() {
  const char* folder = std::getenv("SENTINELNN_TEST_DATA");
  return folder ? folder : SENTINEL_TEST_DATA_DEFAULT;
}

}  // namespace sentinel::test
