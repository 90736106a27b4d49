/// Allocated plans, which channel-FI uses: how trials are shared out, and what their intervals are
/// worth where one stops at a half-width.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <numeric>
#include <string>

#include "golden/toy_outcomes.hpp"
#include "sentinel/core/rng.hpp"
#include "sentinel/stats/design.hpp"
#include "sentinel/stats/stratified.hpp"

namespace sentinel {
namespace {

using Counts = std::vector<std::uint64_t>;

const std::vector<double> kWeights = {1.0 / 32, 7.0 / 32, 24.0 / 32};  // {30}, {29-23}, {31, 22-0}
const std::vector<double> kSupposed = {0.5, 0, 0};
constexpr std::uint64_t kSeed = 17, kUnlimited = 1'000'000;

std::uint64_t sum(const Counts& counts) {
  return std::accumulate(counts.begin(), counts.end(), std::uint64_t{0});
}

/// Half the width of MOVER's interval after so many trials of these shares.
double half_width(const std::vector<double>& shares, const Counts& counts) {
  std::vector<Moments> strata(counts.size());
  for (std::size_t h = 0; h < counts.size(); ++h)
    for (std::uint64_t i = 0; i < counts[h]; ++i) strata[h].add(shares[h]);
  return mover_interval(kWeights, strata, 0.95).half_width();
}

DesignOptions options(double half_width, std::uint64_t point = 0) {
  DesignOptions options;
  options.sampling = Sampling::kAllocated;
  options.trials = kUnlimited;
  options.weights = kWeights;
  options.costs = {1, 1, 1};
  options.supposed = kSupposed;
  options.precision.half_width = half_width;
  options.seed = kSeed;
  options.point = static_cast<std::uint32_t>(point);
  return options;
}

// ---- how many ----------------------------------------------------------------------------------

TEST(AllocateFor, ReachesTheHalfWidthAndNoStratumIsTooLarge) {
  const Counts counts = allocate_for(0.01, 0.95, kWeights, kSupposed, {0, 0, 0}, kUnlimited);
  EXPECT_LE(half_width(kSupposed, counts), 0.01);
  EXPECT_NEAR(static_cast<double>(sum(counts)), 369,
              4);  // of an exhaustive greedy search; a step is n/64
  for (std::size_t h = 0; h < counts.size(); ++h) {
    Counts fewer = counts;
    fewer[h] -= 6;  // a step is at most 1 + n/64
    EXPECT_GT(half_width(kSupposed, fewer), 0.01) << h;
  }
}

TEST(AllocateFor, KeepsWhatIsThereAndTheLimit) {
  const Counts there = {10, 500, 7};
  const Counts counts = allocate_for(0.01, 0.95, kWeights, kSupposed, there, kUnlimited);
  for (std::size_t h = 0; h < counts.size(); ++h) EXPECT_GE(counts[h], there[h]);
  EXPECT_EQ(counts[1], 500u);
  EXPECT_EQ(allocate_for(0.5, 0.95, kWeights, kSupposed, there, kUnlimited), there);
  const std::uint64_t limited = sum(allocate_for(1e-5, 0.95, kWeights, kSupposed, {0, 0, 0}, 100));
  EXPECT_GE(limited, 100u);
  EXPECT_LE(limited, 102u);
}

// ---- plans -------------------------------------------------------------------------------------

Counts drawn(const Design& design, std::uint64_t begin, std::uint64_t end) {
  Counts counts(kWeights.size());
  for (std::uint64_t id = begin; id < end; ++id)
    ++counts[static_cast<std::size_t>(design.draw(id).stratum)];
  return counts;
}

TEST(AllocatedDesign, FirstRoundIsWhatTheSuppositionNeedsInARandomOrder) {
  const Design design(options(0.01));
  const Counts wanted = allocate_for(0.01, 0.95, kWeights, kSupposed, {0, 0, 0}, kUnlimited);
  EXPECT_EQ(design.ready(), sum(wanted));
  EXPECT_EQ(drawn(design, 0, design.ready()), wanted);
  ASSERT_EQ(design.rounds().size(), 1u);
  EXPECT_EQ(design.rounds()[0].allocated, wanted);
  const Counts half = drawn(design, 0, design.ready() / 2);
  for (std::size_t h = 0; h < half.size(); ++h) EXPECT_GT(half[h], 0u) << "sorted by stratum";
  EXPECT_EQ(design.draw(0).probability,
            design.rounds()[0].probabilities[static_cast<std::size_t>(design.draw(0).stratum)]);
  EXPECT_EQ(design.draw(0).stage, 0);
}

TEST(AllocatedDesign, EndsOnceTheSilentStrataStaySilent) {
  Design design(options(0.01));
  const std::uint64_t first = design.ready();
  for (std::uint64_t id = 0; id < first; ++id) {
    EXPECT_FALSE(id > 0 && design.at_round_end());
    design.observe({design.draw(id).stratum == 0 ? 0.5 : 0.0});
  }
  EXPECT_TRUE(design.at_round_end());
  EXPECT_EQ(design.ready(), first) << "a round that nobody needs";
}

TEST(AllocatedDesign, FurtherRoundsGoWhereFailuresWere) {
  Design design(options(0.01));
  const std::uint64_t first = design.ready();
  for (std::uint64_t id = 0; id < first; ++id)
    design.observe({design.draw(id).stratum == 2 ? 0.0 : 0.5});
  EXPECT_GT(design.ready(), first);
  EXPECT_LE(design.ready(), 2 * first + 6);
  const Counts second = drawn(design, first, design.ready());
  EXPECT_GT(second[1], second[0]);
  EXPECT_GT(second[1], second[2]);
}

// What a longer plan draws first does not depend on its end, so that a campaign can be extended.
TEST(AllocatedDesign, ALimitOnlyCutsIt) {
  DesignOptions cut = options(0.01);
  cut.trials = 50;
  const Design longer(options(0.01));
  Design shorter(cut);
  ASSERT_EQ(shorter.ready(), 50u);
  for (std::uint64_t id = 0; id < 50; ++id) {
    EXPECT_EQ(shorter.draw(id).stratum, longer.draw(id).stratum);
    EXPECT_EQ(shorter.draw(id).probability, longer.draw(id).probability);
    shorter.observe({0});
  }
  EXPECT_EQ(shorter.ready(), 50u);
  EXPECT_TRUE(shorter.at_round_end());
  cut.trials = 0;
  EXPECT_EQ(Design(cut).ready(), 0u);
}

TEST(AllocatedDesign, HardlyReachableHalfWidthsStartSmall) {
  EXPECT_LE(Design(options(1e-6)).ready(), 4200u);
}

// ---- coverage ----------------------------------------------------------------------------------

constexpr std::uint64_t kReplicates = 2000;
constexpr double kCovers = 0.935, kCoversConservatively = 0.945;  // as in stats_coverage_test

/// Failing images of a fault, drawn in a stratum.
struct Population {
  std::string name;
  double truth = 0;
  std::function<double(std::size_t stratum, Rng&)> draw;
};

/// Strata in which a fault fails some images with probability `rates`, then the share `sizes`.
Population rates(const std::string& name, std::vector<double> rates, std::vector<double> sizes) {
  Population population{name, 0, {}};
  for (std::size_t h = 0; h < kWeights.size(); ++h)
    population.truth += kWeights[h] * rates[h] * sizes[h];
  population.draw = [=](std::size_t h, Rng& rng) {
    return rng.uniform() < rates[h] ? sizes[h] : 0;
  };
  return population;
}

std::size_t stratum_of(int bit) {
  if (bit == 30) return 0;
  return bit >= 23 && bit <= 29 ? 1 : 2;
}

/// Every flip of the enumerated network; a trial looks at `looked` of its images.
Population toy(std::uint32_t looked) {
  static const test::ToyOutcomes outcomes =
      test::read_toy_outcomes(SENTINEL_GOLDEN_FOLDER "/toy_outcomes.bin");
  std::vector<std::vector<std::uint32_t>> failing(kWeights.size());
  for (const test::FlipOutcome& flip : outcomes.flips)
    failing[stratum_of(flip.bit)].push_back(flip.failing);
  Population population{"toy, " + std::to_string(looked) + " images", 0, {}};
  for (std::size_t h = 0; h < failing.size(); ++h) {
    const double total = std::accumulate(failing[h].begin(), failing[h].end(), 0.0);
    population.truth +=
        kWeights[h] * total / static_cast<double>(failing[h].size() * outcomes.images);
  }
  population.draw = [=, images = outcomes.images](std::size_t h, Rng& rng) {
    std::uint32_t left = failing[h][rng.below(failing[h].size())], seen = 0;
    for (std::uint32_t i = 0; i < looked; ++i)
      if (rng.below(images - i) < left) {
        ++seen;
        --left;
      }
    return static_cast<double>(seen) / looked;
  };
  return population;
}

struct Worth {
  double covered = 0;
  Moments estimates, trials, half_widths;
};

Interval run(const Population& population, double half_width, std::uint64_t replicate) {
  Design design(options(half_width, replicate));
  EstimateOptions wanted;
  wanted.estimate = Estimate::kMover;
  wanted.weights = kWeights;
  Estimator estimator(wanted);
  Rng rng({kSeed, 1, replicate, Purpose::kSynthetic});
  for (std::uint64_t id = 0; id < design.ready(); ++id) {
    const TrialDraw draw = design.draw(id);
    const double value = population.draw(static_cast<std::size_t>(draw.stratum), rng);
    estimator.add(draw, value);
    design.observe({value});
  }
  return estimator.interval();
}

Worth worth_of(const Population& population, double half_width) {
  Worth worth;
  for (std::uint64_t r = 0; r < kReplicates; ++r) {
    const Interval interval = run(population, half_width, r);
    EXPECT_LE(interval.half_width(), half_width);
    worth.covered += interval.lower <= population.truth && population.truth <= interval.upper;
    worth.estimates.add(interval.estimate);
    worth.trials.add(static_cast<double>(interval.n));
    worth.half_widths.add(interval.half_width());
  }
  worth.covered /= kReplicates;
  std::printf("%-24s +-%g: coverage %.4f, half-width %.5f, bias %+.5f of %.5f, %.0f trials\n",
              population.name.c_str(), half_width, worth.covered, worth.half_widths.mean(),
              worth.estimates.mean() - population.truth, population.truth, worth.trials.mean());
  return worth;
}

/// As conservative as MOVER is: no trained network is so, but an interval must not count on it.
TEST(AllocatedCoverage, OfNetworksAndOfRareFailures) {
  const std::vector<Population> populations = {
      rates("as trained networks", {0.45, 0.003, 0}, {0.8, 0.3, 0}),
      rates("whole images", {0.45, 0.003, 0}, {1, 1, 1}),
      rates("bit 30 alone, seldom", {0.05, 0, 0}, {1, 1, 1}),
      rates("bit 30 always", {0.98, 0.05, 0.001}, {1, 0.5, 0.2}),
      rates("exponents too", {0.5, 0.1, 0.002}, {1, 0.6, 1}),
      rates("rare everywhere", {0.4, 0.01, 0.005}, {1, 1, 1}),
      rates("mantissa at the limit", {0.4, 0, 0.01}, {1, 1, 1}),
      rates("mantissa", {0.4, 0, 0.03}, {1, 1, 1}),
      rates("mantissa alone", {0, 0, 0.001}, {1, 1, 1})};
  for (const Population& population : populations) {
    EXPECT_GE(worth_of(population, 0.01).covered, kCovers) << population.name << ", " << kSeed;
  }
  EXPECT_GE(worth_of(populations[0], 0.01).covered, kCoversConservatively);
}

TEST(AllocatedCoverage, OfTheEnumeratedNetwork) {
  for (const std::uint32_t looked : {4u, 16u})
    for (const double half_width : {0.01, 0.03})
      EXPECT_GE(worth_of(toy(looked), half_width).covered, kCovers) << looked << ", " << kSeed;
}

// The control: images counted as trials, though those of a trial share its fault.
TEST(NegativeControl, ImagesAreNoTrials) {
  const Population population = rates("images as trials", {0.4, 0.02, 0.01}, {1, 1, 1});
  double covered = 0;
  for (std::uint64_t r = 0; r < kReplicates; ++r) {
    const Design design(options(0.01, r));
    std::vector<Moments> strata(kWeights.size());
    Rng rng({kSeed, 2, r, Purpose::kSynthetic});
    for (std::uint64_t id = 0; id < design.ready(); ++id) {
      const auto h = static_cast<std::size_t>(design.draw(id).stratum);
      const double value = population.draw(h, rng);
      for (int image = 0; image < 16; ++image) strata[h].add(value);
    }
    const Interval interval = mover_interval(kWeights, strata, 0.95);
    covered += interval.lower <= population.truth && population.truth <= interval.upper;
  }
  EXPECT_LT(covered / kReplicates, kCovers) << kSeed;
}

}  // namespace
}  // namespace sentinel
