#pragma once
#include <ATen/core/grad_mode.h>

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

}  // namespace sentinel::test
