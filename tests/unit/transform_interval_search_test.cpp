#include "sentinel/transform/interval_search.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "sentinel/core/error.hpp"
#include "unit/tolerances.hpp"

namespace sentinel {
namespace {

TEST(IntervalSearch, BeginsWithFourEquidistantBounds) {
  EXPECT_EQ(IntervalSearch(3).candidates(), (std::vector<double>{3 * 0x1p-10, 1, 2, 3}));
}

TEST(IntervalSearch, BeginsAtALowerBound) {
  EXPECT_EQ(IntervalSearch(3, 1.5).candidates(), (std::vector<double>{1.5, 2, 2.5, 3}));
  EXPECT_EQ(IntervalSearch(3, -1).candidates(), IntervalSearch(3).candidates());
}

TEST(IntervalSearch, KeepsTheNeighboursOfTheBest) {
  IntervalSearch search(9);
  search.take({0, 50, 20, 10});
  EXPECT_EQ(search.candidates(), (std::vector<double>{9 * 0x1p-10, 2, 4, 6}));
  search.take({0, 10, 20, 50});
  EXPECT_EQ(search.best(), 6);
  EXPECT_EQ(search.candidates()[0], 4);
  EXPECT_EQ(search.candidates()[3], 6);
  search.take({50, 20, 10, 0});
  EXPECT_EQ(search.best(), 4);
}

TEST(IntervalSearch, EndsAfterThreeOrFourRounds) {
  IntervalSearch flat(1), steep(1);
  for (int round = 1; round <= 3; ++round) {
    EXPECT_FALSE(flat.done());
    flat.take({60, 60.125, 60.25, 60.125});
    steep.take({60, 60.3, 60.1, 60.1});
  }
  EXPECT_TRUE(flat.done());
  EXPECT_FALSE(steep.done());
  steep.take({60, 60.3, 60.1, 60.1});
  EXPECT_TRUE(steep.done());
  EXPECT_THROW(flat.take({60, 60, 60, 60}), Bug);
}

TEST(IntervalSearch, OfEqualScoresTakesTheLargerBound) {
  IntervalSearch search(3);
  search.take({70, 70, 70, 70});
  EXPECT_EQ(search.best(), 3);
}

TEST(IntervalSearch, FindsTheTopOfAParabola) {
  for (const double largest : {0.01, 1.0, 7.5, 1000.0})
    for (int step = 0; step <= 200; ++step) {
      const double top = largest * step / 200;
      IntervalSearch search(largest);
      while (!search.done()) {
        std::vector<double> scores;
        for (const double bound : search.candidates()) scores.push_back(-std::pow(bound - top, 2));
        search.take(scores);
      }
      EXPECT_NEAR(search.best(), top, 0.1 * largest) << "of " << largest;
    }
}

TrialRow row(std::uint32_t point, std::uint64_t id, std::uint32_t model, std::uint32_t correct) {
  TrialRow own;
  own.point = point, own.id = id, own.model = model;
  own.images = 10, own.correct = correct;
  return own;
}

TEST(TrialScores, AreTheAreaUnderAccuracyOverRates) {
  ResultFile result;
  result.info.points.resize(3);
  result.info.points[0].trials = 2;
  result.info.models.resize(2);
  std::uint32_t correct = 0;
  for (std::uint32_t point = 0; point < 3; ++point)
    for (std::uint64_t id = 0; id < 2; ++id)
      for (std::uint32_t model = 0; model < 2; ++model)
        result.trials.push_back(row(point, id, model, correct++ % 11));
  // Trial 0 of model 0 has 0, 4, 8 of 10: (0/2 + 40 + 80/2)/3.
  const std::vector<double> scores = trial_scores(result);
  ASSERT_EQ(scores.size(), 4u);
  EXPECT_NEAR(scores[0], 80.0 / 3, test::kDoubles);
  EXPECT_NEAR(scores[3], (15 + 70 + 0) / 3.0, test::kDoubles);  // 3, 7, 0 of 10
}

TEST(CandidateScores, ArePairedByTrial) {
  // The second is ahead by 1 in every trial but one, however the trials scatter.
  const std::vector<CandidateScore> scores =
      candidate_scores({10, 11, 50, 51, 30, 31, 70, 71, 20, 20.5}, 2);
  EXPECT_EQ(scores[1].behind.n, 0u);
  EXPECT_NEAR(scores[0].behind.estimate, 0.9, test::kDoubles);
  // 0.9 -+ t(4 degrees, 95 %) 2.7764 * 0.2236/sqrt(5)
  EXPECT_NEAR(scores[0].behind.lower, 0.9 - 0.27764, 1e-4);
  EXPECT_NEAR(scores[0].behind.upper, 0.9 + 0.27764, 1e-4);
  EXPECT_GT(scores[0].auc.half_width(), 20);
}

}  // namespace
}  // namespace sentinel
