#include <gtest/gtest.h>

#include "sentinel/models/model.hpp"
#include "sentinel/networks/latency.hpp"

namespace sentinel {
namespace {

TEST(Quartiles, AreSamplesOfTheSortedRuns) {
  const Quartiles q = quartiles({5, 1, 4, 2, 3});
  EXPECT_EQ(q.first, 2);
  EXPECT_EQ(q.median, 3);
  EXPECT_EQ(q.third, 4);
  const Quartiles one = quartiles({7});
  EXPECT_EQ(one.first, 7);
  EXPECT_EQ(one.third, 7);
}

TEST(LatencyRatio, IsTakenRunByRun) {
  // A disturbance that triples a whole round does not show.
  const Latency before{{1, 3, 1}, {}}, after{{2, 6, 2}, {}};
  const Quartiles ratio = latency_ratio(after, before);
  EXPECT_EQ(ratio.first, 2);
  EXPECT_EQ(ratio.median, 2);
  EXPECT_EQ(ratio.third, 2);
}

TEST(MeasureLatency, CountsTheRunsAfterTheWarmUp) {
  const Graph graph = initial_model("resnet20", 10, 1);
  const at::Tensor images = at::zeros({1, 3, 32, 32});
  const auto latencies = measure_latency({&graph, &graph}, images, 1, 3, 1);
  ASSERT_EQ(latencies.size(), 2u);
  for (const Latency& latency : latencies) {
    ASSERT_EQ(latency.runs.size(), 3u);
    for (double time : latency.runs) EXPECT_GT(time, 0);
  }
  ASSERT_EQ(static_cast<NodeId>(latencies[0].layers.size()), graph.size());
  for (NodeId id = 1; id < graph.size(); ++id)
    EXPECT_EQ(latencies[0].layers[static_cast<std::size_t>(id)].size(), 3u);
  EXPECT_TRUE(latencies[1].layers.empty()) << "layers were asked for of the first only";
}

}  // namespace
}  // namespace sentinel
