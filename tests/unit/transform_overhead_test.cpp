#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sentinel/core/error.hpp"
#include "sentinel/graph/profile.hpp"
#include "sentinel/transform/harden.hpp"
#include "unit/transform_support.hpp"

namespace sentinel {
namespace {

using testing::ElementsAre;

/// Two convolutions. Channels cost 9 and 19 parameters, 576 and 72 MACs.
Graph two_convolutions() {
  Graph graph;
  NodeId x = graph.add("x", Input{1, {8, 8}}, {});
  x = graph.add("a", test::conv(2, 1), {x});
  x = graph.add("b", test::conv(3, 2, 3, 4, 1, true), {x});
  x = graph.add("pool", AdaptiveAvgPool{}, {x});
  x = graph.add("flatten", Flatten{}, {x});
  graph.add("fc", Linear{test::values({4, 3}), test::values({4})}, {x});
  return graph;
}

ChannelScores scores_of(std::vector<double> a, std::vector<double> b) {
  return {{1, "a", std::move(a)}, {2, "b", std::move(b)}};
}

using Counts = std::vector<std::int64_t>;

TEST(Overhead, CostsAreThoseOfTheProfile) {
  const Graph graph = two_convolutions();
  EXPECT_EQ(cost_of(graph, OverheadOf::kParameters), 2 * 9 + 3 * 19 + 16);
  EXPECT_EQ(cost_of(graph, OverheadOf::kMacs), 2 * 9 * 64 + 3 * 18 * 4 + 12);
  EXPECT_EQ(cost_of_copies(graph, OverheadOf::kParameters), 0);
}

/// Benefits per parameter: 1 and 0.25 in a; 0.01, 0.5 and 0.25 in b.
TEST(Overhead, TakesChannelsOfAllLayersInOrderOfBenefitPerCost) {
  const Graph graph = two_convolutions();
  const ChannelScores scores = scores_of({9, 2.25}, {0.19, 9.5, 4.75});
  const auto counts = [&](double parameters) {
    return copies_within({parameters / 91, OverheadOf::kParameters, ScoreScale::kChannel}, graph,
                         scores);
  };
  EXPECT_EQ(counts(9.01), (Counts{1, 0}));   // a0
  EXPECT_EQ(counts(28.01), (Counts{1, 1}));  // a0, b1
  EXPECT_EQ(counts(37.01), (Counts{2, 1}));  // a1 and b2 tie: the earlier layer first
  EXPECT_EQ(counts(56.01), (Counts{2, 2}));
  EXPECT_EQ(counts(91), (Counts{2, 3}));  // more than there is to copy
  EXPECT_EQ(counts(27), (Counts{2, 0}));  // b1 does not fit, a1 does
}

/// A filter of twice the weights is hit twice as often.
TEST(Overhead, SharesOfFlipsCountByTheWeightsOfTheFilter) {
  Graph graph = two_convolutions();
  std::get<Conv>(graph[2].op).bias = at::Tensor();
  const ChannelScores scores = scores_of({0.5, 0.2}, {0.4, 0.3, 0.1});
  const auto counts = [&](ScoreScale scale) {
    return copies_within({45.01 / 88, OverheadOf::kParameters, scale}, graph, scores);
  };
  EXPECT_EQ(counts(ScoreScale::kFlip), (Counts{1, 2}));     // 0.5, 0.4, 0.3
  EXPECT_EQ(counts(ScoreScale::kChannel), (Counts{2, 1}));  // 0.5/9, 0.2/9, 0.4/18
}

TEST(Overhead, OfMacsCountsThePositionsOfTheOutput) {
  const Graph graph = two_convolutions();
  const double whole = static_cast<double>(cost_of(graph, OverheadOf::kMacs));
  const ChannelScores scores = scores_of({0.9, 0.8}, {0.5, 0.5, 0.5});
  const auto counts = [&](double macs) {
    return copies_within({macs / whole, OverheadOf::kMacs, ScoreScale::kChannel}, graph, scores);
  };
  EXPECT_EQ(counts(3 * 72 + 0.5), (Counts{0, 3}));  // of b each costs 18 * 4
  EXPECT_EQ(counts(3 * 72 + 576 + 0.5), (Counts{1, 3}));
}

TEST(Overhead, ThatNoChannelFitsIsRefused) {
  try {
    copies_within({0.01, OverheadOf::kParameters, ScoreScale::kFlip}, two_convolutions(),
                  scores_of({1, 1}, {1, 1, 1}));
    ADD_FAILURE() << "no error";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("overhead 0.01 is too little"));
    EXPECT_THAT(error.what(), testing::HasSubstr("the cheapest adds 0.099"));
  }
}

class Budget : public testing::TestWithParam<OverheadOf> {};

/// Some layers have no copies, and nothing else changes.
TEST_P(Budget, IsKeptAndNearlyUsedAndLogitsStay) {
  at::manual_seed(9);
  const Graph graph = test::plain_residual();
  const at::Tensor images = at::randn({5, 3, 8, 8});
  const ChannelScores scores = test::random_scores(graph, 9);
  DuplicationPlan plan;
  plan.overhead = {0.2, GetParam(), ScoreScale::kFlip};
  const Graph hardened = duplicate_channels(graph, scores, plan);
  const double reached = static_cast<double>(cost_of(hardened, GetParam())) /
                             static_cast<double>(cost_of(graph, GetParam())) -
                         1;
  EXPECT_LE(reached, 0.2);
  EXPECT_GT(reached, 0.17);  // the cheapest channel costs 2 to 3 %
  EXPECT_EQ(cost_of_copies(hardened, GetParam()),
            cost_of(hardened, GetParam()) - cost_of(graph, GetParam()));
  EXPECT_TRUE(test::same_bits(logits(graph, images), logits(hardened, images)));
  std::size_t plain = 0;
  for (const LayerScores& layer : scores) {
    const auto* twice = std::get_if<DuplicatedConv>(&hardened[layer.node].op);
    plain += twice == nullptr;
    if (!twice) continue;
    auto best = descending(layer.scores);
    best.resize(twice->duplicated.size());
    EXPECT_EQ(twice->duplicated, best) << layer.layer;
  }
  EXPECT_GT(plain, 0U);
}

INSTANTIATE_TEST_SUITE_P(Of, Budget, testing::Values(OverheadOf::kParameters, OverheadOf::kMacs));

TEST(Overhead, GoesWithNoGroupLayout) {
  const Graph graph = test::plain_residual();
  DuplicationPlan plan;
  plan.overhead = {0.2, OverheadOf::kParameters, ScoreScale::kFlip};
  plan.layout = RowLayout::kGroup;
  EXPECT_THROW(duplicate_channels(graph, test::random_scores(graph, 1), plan), UserError);
}

TEST(ScoreScales, AreKnownForEveryMethod) {
  std::vector<std::string> of_layers;
  for (const std::string& name : importance_names())
    if (score_scale(name) == ScoreScale::kLayer) of_layers.push_back(name);
  EXPECT_THAT(of_layers, ElementsAre("l1-norm", "l2-norm"));
  EXPECT_EQ(score_scale("deepvigor"), ScoreScale::kFlip);
  EXPECT_EQ(score_scale(kChannelFaults), ScoreScale::kFlip);
  EXPECT_EQ(score_scale("of somebody else"), ScoreScale::kLayer);
}

}  // namespace
}  // namespace sentinel
