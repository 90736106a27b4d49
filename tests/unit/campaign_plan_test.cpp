#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "campaign/point_progress.hpp"
#include "campaign/result_info.hpp"
#include "campaign/simulation.hpp"
#include "unit/tolerances.hpp"

namespace sentinel {
namespace {

constexpr std::int64_t kImages = 100;
constexpr double kAccuracy = 0.9;
constexpr std::uint64_t kMany = 400'000;
constexpr double kLook = 256;  // trials from one look at a plan to the next

const Strata kBits{{"bit 30", "others"}, {0.05, 0.95}, {1, 1}};
const Strata kCounts{{"0", "1", "2 or more"}, {0.75, 0.2, 0.05}, {1, 1, 1}};

CampaignPoint stopping(Sampler sampler, double half_width) {
  CampaignPoint point{std::move(sampler), 1'000'000};
  point.sampling = Sampling::kSequential;
  point.precision.half_width = half_width;
  return point;
}

CampaignPoint fixed(Sampler sampler, std::uint64_t trials) {
  return {std::move(sampler), trials};
}

ResultInfo info_of(const CampaignPoint& point, const Strata& strata, std::size_t networks = 1) {
  const ImageBlocks all(kImages, -1, 1);
  return supposed_info({point}, {strata}, networks, all, kImages, kAccuracy);
}

Population population_of(const CampaignPoint& point, const Strata& strata, double chance) {
  const Supposition supposed = suppose(point, strata);
  for (const Population& population : supposed.populations)
    if (population.chance == chance) return population;
  throw Bug("no such population");
}

DryRun::Outlook outlook_of(const CampaignPoint& point, const Strata& strata, double chance,
                           std::size_t networks = 1, std::uint64_t most = kMany) {
  return simulate(info_of(point, strata, networks), ImageBlocks(kImages, -1, 1), 0, point,
                  population_of(point, strata, chance), most);
}

/// A run, as rank 0 has it, on trials drawn here: of half of them that fail SDC, the others DUE.
std::uint64_t trials_of_a_run(const CampaignPoint& point, const Strata& strata,
                              const std::vector<double>& failing, std::uint64_t seed) {
  ResultInfo info = info_of(point, strata);
  info.seed = seed;
  PointProgress progress(info, 0, point);
  const TrialSource source = progress.source(2);
  for (std::uint64_t id = 0; progress.done() < progress.wanted(); ++id) {
    const TrialDraw draw = source.draw(id);
    Rng rng({seed, 0, id, Purpose::kShuffle});
    TrialRow row;
    row.id = id;
    row.stratum = draw.stratum;
    row.probability = draw.probability;
    row.images = kImages;
    const bool fails = rng.uniform() < failing[static_cast<std::size_t>(draw.stratum)];
    (!fails ? row.masked : rng.uniform() < 0.5 ? row.due : row.sdc_critical) = row.images;
    row.correct = fails ? 0 : static_cast<std::uint32_t>(kAccuracy * kImages);
    progress.add({row});
  }
  return progress.done();
}

TEST(Suppose, SaysWhichFlipsFail) {
  const Supposition bits = suppose({ExactFaults{1}}, kBits);
  EXPECT_EQ(bits.of, "flips of bit 30 that fail");
  for (const Population& p : bits.populations) {
    EXPECT_THAT(p.failing_in, ::testing::ElementsAre(p.chance, 0));
    EXPECT_DOUBLE_EQ(p.failing, 0.05 * p.chance);
  }
  const Supposition counts = suppose({BinomialFaults{1e-6}}, kCounts);
  for (const Population& p : counts.populations) {
    EXPECT_NEAR(p.failing_in[2], 1 - (1 - p.chance) * (1 - p.chance), test::kDoubles);
    EXPECT_NEAR(p.failing, 0.2 * p.failing_in[1] + 0.05 * p.failing_in[2], test::kDoubles);
  }
  for (const Population& p : suppose({ExactFaults{9}}, {{"all"}, {1}, {1}}).populations)
    EXPECT_EQ(p.failing, p.chance);
}

TEST(Simulate, StopsWhereARunOnSuchTrialsStops) {
  for (const auto& [point, strata] : {std::pair(stopping(ExactFaults{1}, 0.01), kBits),
                                      std::pair(stopping(BinomialFaults{1e-6}, 0.03), kCounts)}) {
    const DryRun::Outlook said = outlook_of(point, strata, 0.5);
    EXPECT_EQ(said.simulations, 21);
    EXPECT_LE(said.half_width.high, point.precision.half_width);
    const Population population = population_of(point, strata, 0.5);
    std::vector<double> taken;
    for (std::uint64_t seed = 101; seed <= 121; ++seed)
      taken.push_back(
          static_cast<double>(trials_of_a_run(point, strata, population.failing_in, seed)));
    std::sort(taken.begin(), taken.end());
    // Plans are looked at every 256 trials: one look apart, at the ends of 21 runs two.
    EXPECT_NEAR(said.trials.median, taken[10], kLook);
    EXPECT_NEAR(said.trials.low, taken[1], 2 * kLook);
    EXPECT_NEAR(said.trials.high, taken[19], 2 * kLook);
  }
}

TEST(Simulate, SaysTheSameAgain) {
  const CampaignPoint point = stopping(ExactFaults{1}, 0.01);
  const DryRun::Outlook one = outlook_of(point, kBits, 0.2), other = outlook_of(point, kBits, 0.2);
  EXPECT_EQ(one.trials.low, other.trials.low);
  EXPECT_EQ(one.trials.median, other.trials.median);
  EXPECT_EQ(one.half_width.high, other.half_width.high);
}

TEST(Simulate, HasTheFloorsOfARun) {
  // Wide enough at once: the plan still wants 200 trials and, of single flips, 20 that fail.
  EXPECT_GE(outlook_of(stopping(BinomialFaults{1e-6}, 0.4), kCounts, 0.5).trials.low, 200);
  // Were all trials of bit 30, one in a hundred would fail, the 20th after some 2000.
  const DryRun::Outlook rare = outlook_of(stopping(ExactFaults{1}, 0.4), kBits, 0.01);
  EXPECT_GT(rare.trials.low, 1000);
}

TEST(Simulate, SaysWhereItGaveUp) {
  const DryRun::Outlook outlook = outlook_of(stopping(ExactFaults{1}, 0.001), kBits, 0.5, 1, 2000);
  EXPECT_TRUE(std::isinf(outlook.trials.median));
  EXPECT_EQ(outlook.most, 2000u);
  EXPECT_EQ(outlook.simulations, 1);
  EXPECT_GT(outlook.half_width.median, 0.001);
}

TEST(Simulate, TellsTheHalfWidthOfAFixedPlan) {
  const CampaignPoint point = fixed(BinomialFaults{1e-6}, 2000);
  const DryRun::Outlook outlook = outlook_of(point, kCounts, 0.5);
  const double p = population_of(point, kCounts, 0.5).failing;
  EXPECT_EQ(outlook.trials.low, 2000);
  EXPECT_EQ(outlook.trials.high, 2000);
  // A median of 21 runs; each is known to sqrt((1 - p) / p / 2000) / 2 of itself: 5 standard
  // errors.
  EXPECT_NEAR(outlook.half_width.median, 1.96 * kAccuracy * std::sqrt(p * (1 - p) / 2000), 5e-4);
}

TEST(Simulate, MakesThePilotOfAStratifiedPlan) {
  CampaignPoint point = fixed(ExactFaults{1}, 1000);
  const double simple = outlook_of(point, kBits, 0.5).half_width.median;
  point.sampling = Sampling::kStratified;
  const DryRun::Outlook outlook = outlook_of(point, kBits, 0.5);
  EXPECT_EQ(outlook.trials.median, 1000);
  EXPECT_GT(outlook.half_width.low, 0);
  EXPECT_LT(outlook.half_width.median, simple);
}

TEST(Simulate, SeveralNetworksEndWithTheLast) {
  // The same faults hit all, or each has its own.
  const CampaignPoint paired = stopping(BinomialFaults{1e-6}, 0.03);
  EXPECT_EQ(outlook_of(paired, kCounts, 0.5, 2).trials.median,
            outlook_of(paired, kCounts, 0.5, 1).trials.median);
  const CampaignPoint own = stopping(ExactFaults{1}, 0.01);
  EXPECT_GE(outlook_of(own, kBits, 0.2, 4).trials.median,
            outlook_of(own, kBits, 0.2, 1).trials.median);
}

TEST(Simulate, KnowsBlocksOfImages) {
  const CampaignPoint point = stopping(BinomialFaults{1e-6}, 0.03);
  const ImageBlocks blocks(kImages, 8, 1);
  const ResultInfo info = supposed_info({point}, {kCounts}, 1, blocks, kImages, kAccuracy);
  const DryRun::Outlook outlook =
      simulate(info, blocks, 0, point, population_of(point, kCounts, 0.5), kMany);
  // Blocks lose what of them is right, which differs: a little more than all images do.
  EXPECT_NEAR(outlook.trials.median, outlook_of(point, kCounts, 0.5).trials.median, 2 * kLook);
}

}  // namespace
}  // namespace sentinel
