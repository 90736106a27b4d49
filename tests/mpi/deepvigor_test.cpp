// deepvigor's scores are the same on every rank and for every number of ranks.
#include <gtest/gtest.h>

#include "sentinel/comm/comm.hpp"
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
