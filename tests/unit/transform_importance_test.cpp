#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "sentinel/core/error.hpp"
#include "sentinel/graph/profile.hpp"
#include "unit/tolerances.hpp"
#include "unit/transform_support.hpp"

namespace sentinel {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

template <class E>
std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const E& error) {
    return error.what();
  }
  return "no error";
}

TEST(Importance, NormsAreThoseOfTheFilters) {
  at::manual_seed(1);
  const Graph graph = test::plain_residual();
  const auto l1 = importance_method("l1-norm")->score({graph});
  const auto l2 = importance_method("l2-norm")->score({graph});
  ASSERT_EQ(l1.size(), 6u);
  for (std::size_t i = 0; i < l1.size(); ++i) {
    const auto weight = as_conv(graph[l1[i].node].op)->weight.to(at::kDouble).flatten(1);
    const auto sums = weight.abs().sum(1), norms = weight.pow(2).sum(1).sqrt();
    EXPECT_EQ(l1[i].layer, graph[l1[i].node].name);
    ASSERT_EQ(l1[i].scores.size(), static_cast<std::size_t>(weight.size(0)));
    for (std::int64_t c = 0; c < weight.size(0); ++c) {
      const auto at = static_cast<std::size_t>(c);
      EXPECT_NEAR(l1[i].scores[at], sums[c].item<double>(),
                  test::kDoubles * sums[c].item<double>());
      EXPECT_NEAR(l2[i].scores[at], norms[c].item<double>(),
                  test::kDoubles * norms[c].item<double>());
    }
  }
}

TEST(Importance, CopiesHaveNoScoreOfTheirOwn) {
  at::manual_seed(2);
  const Graph graph = test::residual_graph();
  for (const auto& layer : importance_method("l1-norm")->score({graph})) {
    EXPECT_EQ(static_cast<std::int64_t>(layer.scores.size()),
              channel_counts(graph)[static_cast<std::size_t>(layer.node)]);
  }
}

TEST(Importance, UnknownNameListsTheKnownOnes) {
  const auto message = message_of<UserError>([] { importance_method("l3-norm"); });
  EXPECT_THAT(message, HasSubstr("l3-norm"));
  for (const auto& name : importance_names()) {
    EXPECT_THAT(message, HasSubstr(name));
    if (name != kChannelFaults) {
      EXPECT_EQ(importance_method(name)->name(), name);
    }
  }
}

TEST(Importance, DescendingBreaksTiesByNumberAndPutsNanLast) {
  EXPECT_THAT(descending({1, 3, 2, 3}), ElementsAre(1, 3, 2, 0));
  EXPECT_THAT(descending({NAN, 0, NAN, INFINITY, -INFINITY}), ElementsAre(3, 1, 4, 0, 2));
  EXPECT_TRUE(descending({}).empty());
}

class Ranking : public testing::Test {
 protected:
  Ranking() : graph_(test::plain_residual()) {
    graph_.architecture = "toy";
    scores_ = test::random_scores(graph_, 3);
    ranking_ = to_ranking(graph_, "random", scores_);
  }
  std::string error() {
    return message_of<DataError>([&] { from_ranking(graph_, ranking_, "rank.h5"); });
  }
  Graph graph_;
  ChannelScores scores_;
  RankingFile ranking_;
};

TEST_F(Ranking, ComesBackInWhateverOrder) {
  EXPECT_EQ(ranking_.architecture, "toy");
  EXPECT_EQ(ranking_.method, "random");
  EXPECT_EQ(ranking_.layers[0].order, descending(scores_[0].scores));
  std::reverse(ranking_.layers.begin(), ranking_.layers.end());
  const auto back = from_ranking(graph_, ranking_, "rank.h5");
  ASSERT_EQ(back.size(), scores_.size());
  for (std::size_t i = 0; i < back.size(); ++i) {
    EXPECT_EQ(back[i].node, scores_[i].node);
    EXPECT_EQ(back[i].layer, scores_[i].layer);
    EXPECT_EQ(back[i].scores, scores_[i].scores);
  }
}

TEST_F(Ranking, OfAnotherWidthIsRefused) {
  ranking_.layers[1].scores.pop_back();
  const auto message = error();
  EXPECT_THAT(message, HasSubstr("rank.h5"));
  EXPECT_THAT(message, HasSubstr("layer1.0.conv1"));
  EXPECT_THAT(message, HasSubstr("4 scores"));
  EXPECT_THAT(message, HasSubstr("5 channels"));
}

TEST_F(Ranking, WithMissingAndUnexpectedLayersIsRefused) {
  ranking_.layers[1].layer = "layer9.conv";
  const auto message = error();
  EXPECT_THAT(message, HasSubstr("without scores: layer1.0.conv1"));
  EXPECT_THAT(message, HasSubstr("not in the model: layer9.conv"));
}

TEST_F(Ranking, WithALayerTwiceIsRefused) {
  ranking_.layers.push_back(ranking_.layers[0]);
  EXPECT_THAT(error(), HasSubstr("conv1 is ranked twice"));
}

}  // namespace
}  // namespace sentinel
