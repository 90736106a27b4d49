#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "sentinel/core/error.hpp"
#include "sentinel/core/rng.hpp"
#include "sentinel/stats/design.hpp"
#include "sentinel/stats/stratified.hpp"
#include "unit/tolerances.hpp"

namespace sentinel {
namespace {

/// A population of three strata, of which the first fails half the time and the others seldom.
const std::vector<double> kWeights = {0.05, 0.25, 0.7}, kFailing = {0.5, 0.02, 0};

double outcome(std::uint64_t id, std::int32_t stratum) {
  Rng rng({5, 9, id, Purpose::kFaults});
  return rng.uniform() < kFailing[static_cast<std::size_t>(stratum)] ? 1 : 0;
}

DesignOptions options(Sampling sampling, std::uint64_t trials) {
  DesignOptions options;
  options.sampling = sampling;
  options.trials = trials;
  options.weights = kWeights;
  options.costs = {1, 1, 1};
  options.pilot_share = 0.1;
  options.seed = 3;
  options.point = 1;
  return options;
}

/// Draws of all trials, observed one by one as far as needed.
std::vector<TrialDraw> run(Design& design, std::uint64_t trials) {
  std::vector<TrialDraw> draws;
  for (std::uint64_t id = 0; id < trials; ++id) {
    draws.push_back(design.draw(id));
    design.observe({outcome(id, draws.back().stratum)});
  }
  return draws;
}

TEST(Design, SimpleIsReadyAtOnce) {
  Design design(options(Sampling::kSimple, 10));
  EXPECT_EQ(design.ready(), 10u);
  EXPECT_EQ(design.draw(9).stratum, -1);
  EXPECT_EQ(design.draw(9).probability, 1);
  EXPECT_THROW(design.draw(10), Bug);
}

TEST(Design, EqualIsBalancedAfterAnyTrial) {
  const Design design(options(Sampling::kEqual, 50)), longer(options(Sampling::kEqual, 80));
  EXPECT_EQ(design.ready(), 50u);
  EXPECT_TRUE(design.rounds().empty());
  std::vector<std::uint64_t> drawn(3);
  for (std::uint64_t id = 0; id < 50; ++id) {
    const TrialDraw draw = design.draw(id);
    EXPECT_EQ(draw.stage, 0);
    EXPECT_EQ(draw.stratum, longer.draw(id).stratum) << "more trials are an extension";
    EXPECT_DOUBLE_EQ(draw.probability, 1.0 / 3);
    ++drawn[static_cast<std::size_t>(draw.stratum)];
    const auto [least, most] = std::minmax_element(drawn.begin(), drawn.end());
    EXPECT_LE(*most - *least, 1u);
  }
  EXPECT_THROW(design.draw(50), Bug);
}

TEST(Design, StratifiedPlansItsMainSampleByTheWholePilot) {
  Design design(options(Sampling::kStratified, 300));
  const std::uint64_t pilot = 3 * 10;  // 10 % of 300 over 3 strata
  EXPECT_EQ(design.ready(), pilot);
  for (std::uint64_t id = 0; id < pilot; ++id) {
    EXPECT_EQ(design.draw(id).stage, 1);
    EXPECT_EQ(design.draw(id).stratum, static_cast<std::int32_t>(id % 3));
  }
  run(design, pilot - 1);
  EXPECT_EQ(design.ready(), pilot);
  design.observe({outcome(pilot - 1, 2)});
  ASSERT_EQ(design.ready(), 300u);
  const Design::Round& main = design.rounds().at(1);
  EXPECT_EQ(std::accumulate(main.allocated.begin(), main.allocated.end(), 0u), 300 - pilot);
  EXPECT_GT(static_cast<double>(main.allocated[0]), 1.5 * kWeights[0] * 270)
      << "the stratum that fails gets more than its share";
  std::vector<std::uint64_t> drawn(3);
  for (std::uint64_t id = pilot; id < 300; ++id) {
    const TrialDraw draw = design.draw(id);
    EXPECT_EQ(draw.stage, 0);
    ++drawn[static_cast<std::size_t>(draw.stratum)];
  }
  EXPECT_EQ(drawn, main.allocated);
}

TEST(Design, TooFewTrialsForThePilotAreRefused) {
  try {
    Design(options(Sampling::kStratified, 32));
    FAIL() << "no error";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("at least 33 trials"));
  }
}

TEST(Design, SequentialRoundsKnowTheRoundBeforeTheLastOnly) {
  constexpr std::uint64_t kRound = Design::kFirstRoundTrials;
  Design design(options(Sampling::kSequential, 3000));
  EXPECT_EQ(design.ready(), 3 * kRound);
  for (const std::size_t round : {0u, 1u})  // nothing is known: by weight
    EXPECT_THAT(design.rounds()[round].probabilities,
                ::testing::Pointwise(::testing::DoubleEq(), kWeights));
  const std::vector<TrialDraw> draws = run(design, kRound);
  EXPECT_EQ(design.ready(), 7 * kRound);
  EXPECT_TRUE(design.at_round_end());
  // By hand: what round 2 may know is round 0.
  std::vector<Moments> seen(3);
  for (std::uint64_t id = 0; id < kRound; ++id)
    seen[static_cast<std::size_t>(draws[id].stratum)].add(outcome(id, draws[id].stratum));
  std::vector<double> spreads;
  for (const Moments& stratum : seen) spreads.push_back(smoothed_spread(stratum));
  EXPECT_EQ(design.rounds()[2].probabilities, draw_probabilities(kWeights, spreads));
}

TEST(Design, RoundsFollowEachOtherToTheLastTrial) {
  Design design(options(Sampling::kSequential, 1000));
  std::vector<std::uint64_t> ends;
  for (std::uint64_t id = 0; id < 1000; ++id) {
    design.observe({outcome(id, design.draw(id).stratum)});
    if (design.at_round_end()) ends.push_back(id + 1);
  }
  EXPECT_THAT(ends, ::testing::ElementsAre(32, 96, 224, 480, 736, 992, 1000));
  EXPECT_EQ(design.ready(), 1000u);
}

TEST(Design, IsAFunctionOfWhatWasObservedInOrder) {
  Design first(options(Sampling::kSequential, 2000)), second(options(Sampling::kSequential, 2000));
  const auto a = run(first, 2000), b = run(second, 2000);
  for (std::size_t id = 0; id < a.size(); ++id) {
    ASSERT_EQ(a[id].stratum, b[id].stratum);
    ASSERT_EQ(a[id].probability, b[id].probability);
  }
  // More trials than planned now go on with the same ones.
  Design longer(options(Sampling::kSequential, 5000));
  const auto c = run(longer, 5000);
  for (std::size_t id = 0; id < a.size(); ++id) ASSERT_EQ(a[id].stratum, c[id].stratum);
}

/// Every estimator finds the population's share; six standard errors are far above chance.
TEST(Estimator, FindsTheMeanThatItsDesignSamples) {
  double truth = 0;
  for (std::size_t h = 0; h < 3; ++h) truth += kWeights[h] * kFailing[h];
  struct Case {
    Sampling sampling;
    Estimate estimate;
  };
  for (const auto& [sampling, estimate] : {Case{Sampling::kStratified, Estimate::kStratified},
                                           Case{Sampling::kStratified, Estimate::kMover},
                                           Case{Sampling::kSequential, Estimate::kAsymptotic},
                                           Case{Sampling::kSequential, Estimate::kBernstein}}) {
    constexpr std::uint64_t kTrials = 20000;
    Design design(options(sampling, kTrials));
    EstimateOptions how;
    how.estimate = estimate;
    how.weights = kWeights;
    Estimator estimator(how);
    std::uint64_t counted = 0;
    for (std::uint64_t id = 0; id < kTrials; ++id) {
      const TrialDraw draw = design.draw(id);
      const double value = outcome(id, draw.stratum);
      design.observe({value});
      estimator.add(draw, value);
      counted += draw.stage == 0 ? 1 : 0;
    }
    const Interval interval = estimator.interval();
    EXPECT_EQ(estimator.trials(), counted);
    EXPECT_EQ(interval.n, counted);
    EXPECT_LE(interval.lower, truth) << interval.method;
    EXPECT_GE(interval.upper, truth) << interval.method;
    EXPECT_NEAR(interval.estimate, truth, 6 * 0.0015) << interval.method;
    EXPECT_LT(interval.half_width(), 0.03) << interval.method;
  }
}

/// A share of 0.8 is known to have the value 1; the rest is as above.
TEST(Estimator, CountsWhatIsKnownWithoutTrials) {
  for (const auto estimate : {Estimate::kStratified, Estimate::kMover, Estimate::kAsymptotic,
                              Estimate::kBernstein, Estimate::kMean}) {
    EstimateOptions how;
    how.estimate = estimate;
    how.weights = kWeights;
    Estimator plain(how);
    how.known_weight = 0.8;
    how.known_value = 1;
    Estimator known(how);
    for (std::uint64_t id = 0; id < 600; ++id) {
      const auto h = static_cast<std::int32_t>(id % 3);
      const TrialDraw draw{0, h, 1.0 / 3};
      plain.add(draw, outcome(id, h));
      known.add(draw, outcome(id, h));
    }
    const Interval a = plain.interval(), b = known.interval();
    EXPECT_NEAR(b.estimate, 0.8 + 0.2 * a.estimate, test::kDoubles) << a.method;
    EXPECT_NEAR(b.lower, 0.8 + 0.2 * a.lower, test::kDoubles) << a.method;
    EXPECT_NEAR(b.upper, 0.8 + 0.2 * a.upper, test::kDoubles) << a.method;
    EXPECT_EQ(b.n, a.n);
  }
}

TEST(Estimator, BernsteinTakesObservationsBelowZero) {
  EstimateOptions how;
  how.estimate = Estimate::kBernstein;
  how.low = -1;
  how.high = 1;
  how.weights = {1};
  Estimator estimator(how);
  for (int i = 0; i < 20000; ++i) estimator.add({0, 0, 1}, i % 4 == 0 ? -0.5 : 0.1);
  EXPECT_NEAR(estimator.interval().estimate, -0.05, 0.02);
  EXPECT_LT(estimator.interval().lower, -0.05);
  EXPECT_GT(estimator.interval().upper, -0.05);
}

TEST(Design, AStratumAloneIsDrawnForSure) {
  for (int i = 1; i < 2000; ++i) EXPECT_LE(draw_probabilities({1}, {1.0 / i})[0], 1) << i;
}

}  // namespace
}  // namespace sentinel
