#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <vector>

#include "sentinel/core/rng.hpp"
#include "sentinel/stats/betting.hpp"
#include "sentinel/stats/race.hpp"

namespace sentinel {
namespace {

using testing::ElementsAre;

constexpr std::uint64_t kRaces = 2000, kConfirmed = 500;
constexpr double kEqual = 0.005;

/// Accuracies of the trials of one network, whole images of 500: most lose little, a few much.
class ToyTable {
 public:
  explicit ToyTable(std::uint64_t seed) {
    Rng rng({seed, 0, 0, Purpose::kFaults});
    for (double& accuracy : accuracies_) {
      const double u = rng.uniform();
      accuracy = std::round(500 * (0.9 - 0.06 * u * u * u)) / 500;
    }
  }
  double draw(Rng& rng) const {
    return accuracies_[static_cast<std::size_t>(rng.uniform() * kRows)];
  }
  double mean() const {
    double sum = 0;
    for (const double accuracy : accuracies_) sum += accuracy;
    return sum / kRows;
  }

 private:
  static constexpr std::size_t kRows = 4096;
  std::vector<double> accuracies_ = std::vector<double>(kRows);
};

/// Candidate i draws from the table, less `worse[i]`.
Race run(const ToyTable& table, const RaceOptions& options, const std::vector<double>& worse,
         Rng& rng) {
  Race race(options);
  while (!race.ended()) {
    const std::uint64_t end = race.round_end();
    while (race.trials() < end) {
      std::vector<double> values;
      for (const std::size_t candidate : race.remaining())
        values.push_back(table.draw(rng) - worse[candidate]);
      race.add(values);
    }
    race.end_round();
  }
  return race;
}

TEST(Race, RoundsDoubleUpToTheCap) {
  RaceOptions options;
  options.costs = {1, 1};
  options.most = 100;
  Race race(options);
  std::vector<std::uint64_t> ends;
  Rng rng({1, 0, 0, Purpose::kFaults});
  while (!race.ended()) {
    ends.push_back(race.round_end());
    while (race.trials() < ends.back()) race.add({rng.uniform(), rng.uniform()});
    race.end_round();
  }
  EXPECT_THAT(ends, ElementsAre(32, 64, 100));
  EXPECT_EQ(Race::round_ends(100), ends);
  EXPECT_THAT(Race::round_ends(20), ElementsAre(20));
  EXPECT_FALSE(race.decided());
}

TEST(Race, OneCandidateNeedsNoTrial) {
  RaceOptions options;
  options.costs = {1};
  const Race race(options);
  EXPECT_TRUE(race.ended());
  EXPECT_EQ(race.winner(), 0u);
}

/// 0 is 3 points worse than 2, 1 is as good and cheaper.
TEST(Race, TheWorseLeavesAndTheCheapestOfTheRestWins) {
  RaceOptions options;
  options.costs = {0.1, 0.5, 1};
  Race race(options);
  std::vector<Leaving> left;
  Rng rng({2, 0, 0, Purpose::kFaults});
  while (!race.ended()) {
    const std::uint64_t end = race.round_end();
    while (race.trials() < end) {
      const double shared = 0.9 - 0.02 * rng.uniform();
      std::vector<double> values;
      for (const std::size_t candidate : race.remaining())
        values.push_back(shared - (candidate == 0 ? 0.03 : 0) + 0.004 * rng.uniform());
      race.add(values);
    }
    for (const Leaving& own : race.end_round()) left.push_back(own);
  }
  ASSERT_EQ(left.size(), 1u);
  EXPECT_EQ(left[0].candidate, 0u);
  EXPECT_NE(left[0].leader, 0u);
  EXPECT_NEAR(left[0].difference.estimate, -0.03, 0.002);
  EXPECT_LT(left[0].difference.upper, 0);
  EXPECT_TRUE(race.decided());
  EXPECT_THAT(race.remaining(), ElementsAre(1, 2));
  EXPECT_EQ(race.winner(), 1u);
  EXPECT_EQ(race.observed(0).n(), 32u);
}

/// Identical candidates differ nowhere: what was not seen may still be rare.
TEST(Race, EqualRowsAloneProveLittle) {
  RaceOptions options;
  options.costs = {1, 2};
  Race race(options);
  while (!race.ended()) {
    const std::uint64_t end = race.round_end();
    while (race.trials() < end) race.add({0.9, 0.9});
    race.end_round();
  }
  EXPECT_TRUE(race.decided());
  EXPECT_GE(race.trials(), 512u);
  EXPECT_EQ(race.winner(), 0u);
}

/// What is printed comes from fresh trials: unbiased, although the candidate was chosen.
TEST(Race, ConfirmedFiguresOfEqualCandidatesAreUnbiased) {
  const ToyTable table(3);
  RaceOptions options;
  options.costs.assign(20, 1);
  const std::vector<double> worse(20, 0);
  Moments confirmed, raced;
  std::uint64_t covered = 0, ended = 0;
  for (std::uint64_t number = 0; number < kRaces; ++number) {
    Rng rng({3, 1, number, Purpose::kFaults});
    const Race race = run(table, options, worse, rng);
    ended += race.decided();
    raced.add(race.observed(race.winner()).mean());
    Sample sample;
    for (std::uint64_t trial = 0; trial < kConfirmed; ++trial) sample.add(table.draw(rng));
    const Interval interval = sample.interval(0.95, 0, 1);
    confirmed.add(interval.estimate);
    covered += interval.lower <= table.mean() && table.mean() <= interval.upper;
  }
  const auto error = [](const Moments& m) {
    return std::sqrt(m.variance() / static_cast<double>(m.n()));
  };
  const double coverage = static_cast<double>(covered) / kRaces;
  std::printf(
      "truth %.5f, confirmed %.5f +- %.6f, raced %.5f +- %.6f, coverage %.4f, decided %lu\n",
      table.mean(), confirmed.mean(), error(confirmed), raced.mean(), error(raced), coverage,
      static_cast<unsigned long>(ended));
  EXPECT_NEAR(confirmed.mean(), table.mean(), 2 * error(confirmed));
  EXPECT_GE(coverage, 0.935);
  EXPECT_GT(raced.mean(), table.mean() + 5 * error(raced)) << "the control is biased up";
}

TEST(Race, AWorseCandidateHardlyEverWins) {
  const ToyTable table(4);
  RaceOptions options;
  options.costs.assign(20, 1);
  options.costs[7] = 0.1;  // it would win if it were as good
  std::vector<double> worse(20, 0);
  worse[7] = 0.02;
  std::uint64_t won = 0;
  for (std::uint64_t number = 0; number < kRaces; ++number) {
    Rng rng({4, 1, number, Purpose::kFaults});
    won += run(table, options, worse, rng).winner() == 7;
  }
  std::printf("the worse candidate won %lu of %lu races\n", static_cast<unsigned long>(won),
              static_cast<unsigned long>(kRaces));
  EXPECT_LE(won, kRaces / 20);
}

}  // namespace
}  // namespace sentinel
