// vul-gain, salience and quantiles: the same bits with every number of ranks, errors of one rank on
// all.
#include <gtest/gtest.h>

#include <cstring>

#include "sentinel/core/error.hpp"
#include "sentinel/transform/harden.hpp"
#include "sentinel/transform/importance.hpp"
#include "unit/transform_support.hpp"

namespace sentinel {
namespace {

const Comm* world = nullptr;  // set by main, as MPI may be initialised once only

ChannelScores score(const std::string& method, const Graph& graph, const Dataset& images,
                    const Comm& comm) {
  return importance_method(method)->score({graph, &images, comm});
}

TEST(Importance, IsTheSameWithEveryNumberOfRanks) {
  at::manual_seed(1);
  const Graph graph = test::plain_residual();
  for (const std::int64_t count : {5, 33, 70, 130}) {
    const Dataset images = test::quadrants(count, 2);
    for (const char* method : {"vul-gain", "salience"}) {
      const ChannelScores alone = score(method, graph, images, Comm::local());
      const ChannelScores together = score(method, graph, images, *world);
      ASSERT_EQ(together.size(), alone.size());
      for (std::size_t k = 0; k < alone.size(); ++k) {
        EXPECT_EQ(together[k].node, alone[k].node);
        EXPECT_EQ(together[k].layer, alone[k].layer);
        EXPECT_EQ(together[k].scores, alone[k].scores) << method << ", " << count << " images";
      }
    }
  }
}

TEST(BoundSearch, PercentilesAreTheSameWithEveryNumberOfRanks) {
  at::manual_seed(3);
  const Graph graph = test::plain_residual();
  const Dataset images = test::quadrants(130, 2);
  HardeningPlan plan;
  plan.duplication.ratio = 0;
  plan.search = parse_bound_search("percentile:95");
  for (const BoundsPer per : {BoundsPer::kLayer, BoundsPer::kChannel}) {
    plan.bounds = per;
    const Graph alone = harden(graph, {}, plan, images, Comm::local(), at::kCPU);
    const Graph together = harden(graph, {}, plan, images, *world, at::kCPU);
    for (NodeId id = 0; id < graph.size(); ++id) {
      if (const auto* op = std::get_if<BoundedActivation>(&alone[id].op)) {
        EXPECT_TRUE(at::equal(op->bound, std::get<BoundedActivation>(together[id].op).bound));
      }
    }
  }
}

/// Logits overflow where the image is bright.
Graph overflowing() {
  Graph g;
  NodeId x = g.add("x", Input{3, {8, 8}}, {});
  x = g.add("conv", test::conv(2, 3, 1), {x});
  as_conv(g[x].op)->weight.fill_(1e30);
  x = g.add("pool", AdaptiveAvgPool{}, {x});
  x = g.add("flatten", Flatten{}, {x});
  g.add("fc", Linear{at::full({4, 2}, 1e30F), at::ones({4})}, {x});
  return g;
}

TEST(Importance, AnErrorOfOneBlockReachesEveryRank) {
  DatasetInfo info = test::quadrants(1, 1).info();
  info.mean = {0, 0, 0};
  std::vector<std::uint8_t> pixels(70 * 3 * 64, 0);
  pixels[66 * 3 * 64] = 255;  // in the third block
  const Dataset images(info, std::move(pixels), std::vector<std::int64_t>(70, 0));
  try {
    score("vul-gain", overflowing(), images, *world);
    FAIL() << "no error";
  } catch (const SharedError& error) {
    EXPECT_EQ(error.code(), ExitCode::kData);
    EXPECT_NE(std::strstr(error.what(), "image 66"), nullptr) << error.what();
  }
}

}  // namespace
}  // namespace sentinel

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  const sentinel::Comm comm = sentinel::Comm::world();
  sentinel::world = &comm;
  int failed = RUN_ALL_TESTS();
  const sentinel::Bytes own(1, static_cast<std::byte>(failed));
  for (const sentinel::Bytes& one : comm.gather(own)) failed |= static_cast<int>(one.at(0));
  return failed;
}
