// deepvigor's scores are the same on every rank and for every number of ranks.
#include <gtest/gtest.h>

#include "sentinel/comm/comm.hpp"
#include "sentinel/transform/vulnerability.hpp"
#include "unit/transform_support.hpp"

namespace sentinel {
namespace {

const Comm* world = nullptr;  // set by main, as MPI may be initialised once only

std::vector<std::vector<double>> scores_with(const Comm& comm, bool all_positions) {
  at::manual_seed(31);
  Graph graph = test::plain_residual();
  const Dataset images = test::quadrants(40, 1);  // two blocks
  // Random networks know but one class, which no shift changes; now all are about equally frequent.
  std::get<Linear>(graph[graph.find("fc")].op).bias -=
      logits(graph, images.batch(0, images.size(), {}).images).mean(0);
  ImportanceInputs inputs{graph};
  inputs.images = &images;
  inputs.comm = comm;
  inputs.deepvigor.all_positions = all_positions;
  std::vector<std::vector<double>> scores;
  for (const auto& layer : importance_method("deepvigor")->score(inputs))
    scores.push_back(layer.scores);
  return scores;
}

TEST(DeepVigor, EveryRankHasTheScoresOfOneRankAlone) {
  for (const bool all_positions : {false, true})
    EXPECT_EQ(scores_with(*world, all_positions), scores_with(Comm::local(), all_positions));
}

/// What rank 0 knows, in an order of its own; nothing on others.
std::vector<double> factors_with(const Comm& comm, FactorOptions options) {
  at::manual_seed(32);
  Graph graph = test::plain_residual();
  const Dataset images = test::quadrants(40, 1);  // two blocks
  std::get<Linear>(graph[graph.find("fc")].op).bias -=
      logits(graph, images.batch(0, images.size(), {}).images).mean(0);
  options.layers = {"layer1.0.conv2", "layer2.0.conv1", "fc"};
  const VulnerabilityFile file =
      vulnerability_factors({graph, images, comm, at::kCPU, "sha"}, options);
  std::vector<double> numbers = {file.model.lower, file.model.upper, file.model.error};
  for (const LayerFactors& layer : file.layers) {
    numbers.insert(numbers.end(), layer.lower.begin(), layer.lower.end());
    numbers.insert(numbers.end(), layer.upper.begin(), layer.upper.end());
    numbers.insert(numbers.end(), layer.tolerance.begin(), layer.tolerance.end());
  }
  return numbers;
}

TEST(Vulnerability, Rank0HasTheFactorsOfOneRankAlone) {
  FactorOptions neurons;
  neurons.neurons = true;
  neurons.sample = 0.5;
  neurons.site = FlippedWord::kOutput;
  FactorOptions proportional;
  proportional.search = ToleranceOrder::kProportional;
  for (const FactorOptions& options : {FactorOptions(), neurons, proportional}) {
    const std::vector<double> shared = factors_with(*world, options);
    if (world->rank() == 0) {
      EXPECT_EQ(shared, factors_with(Comm::local(), options));
    }
  }
}

}  // namespace
}  // namespace sentinel

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  const sentinel::Comm comm = sentinel::Comm::world();
  sentinel::world = &comm;
  const int failed = RUN_ALL_TESTS();
  int anywhere = failed;
  const sentinel::Bytes bytes(1, static_cast<std::byte>(failed));
  for (const sentinel::Bytes& one : comm.gather(bytes)) anywhere |= static_cast<int>(one.at(0));
  return anywhere;
}
