/// Coverage of whole plans, Design and Estimator together: joint outcome shares of sequential
/// plans, and stratified accuracies over small blocks of images.
#include <gtest/gtest.h>

#include <cstdio>

#include "sentinel/core/error.hpp"
#include "sentinel/core/rng.hpp"
#include "sentinel/stats/centres.hpp"
#include "sentinel/stats/design.hpp"

namespace sentinel {
namespace {

constexpr std::uint64_t kReplicates = 1000;

struct Coverage {
  double share = 0, half_width = 0, estimate = 0;
  void add(const Interval& interval, double truth) {
    share += (interval.lower <= truth && truth <= interval.upper) / double(kReplicates);
    half_width += interval.half_width() / double(kReplicates);
    estimate += interval.estimate / double(kReplicates);
  }
  void print(const std::string& name, double truth) const {
    std::printf("%-44s coverage %.4f, half-width %.5f, mean %.5f of %.5f\n", name.c_str(), share,
                half_width, estimate, truth);
  }
};

// ---- sequential: outcome shares
// ------------------------------------------------------------------

const std::vector<double> kWeights = {0.05, 0.25, 0.7}, kFails = {0.5, 0.02, 0};

/// Where a trial fails, 3 of 10 images are DUE and 5 SDC-critical; else 2 of 10 are masked.
OutcomeShares outcome(std::size_t stratum, Rng& rng) {
  return rng.uniform() < kFails[stratum] ? OutcomeShares{0.1, 0.1, 0.5, 0.3}
                                         : OutcomeShares{0.2, 0.8, 0, 0};
}

double failing_trials() {
  double share = 0;
  for (std::size_t h = 0; h < 3; ++h) share += kWeights[h] * kFails[h];
  return share;
}

struct SharesRun {
  std::vector<Estimator> shares;  // by outcome
  Estimator without_centre;       // of the second
};

SharesRun run_sequentially(Estimate estimate, std::uint64_t replicate, std::uint64_t trials) {
  DesignOptions plan;
  plan.sampling = Sampling::kSequential;
  plan.trials = trials;
  plan.weights = kWeights;
  plan.costs = {1, 1, 1};
  plan.seed = replicate;
  Design design(plan);
  EstimateOptions how;
  how.estimate = estimate;
  how.weights = kWeights;
  SharesRun run{std::vector<Estimator>(4, Estimator(how)), Estimator(how)};
  Centres centres;
  Rng rng({81, 0, replicate, Purpose::kSynthetic});
  for (std::uint64_t id = 0; id < trials; ++id) {
    const TrialDraw draw = design.draw(id);
    const auto h = static_cast<std::size_t>(draw.stratum);
    const OutcomeShares shares = outcome(h, rng);
    for (std::size_t k = 0; k < 4; ++k) run.shares[k].add(draw, shares[k], centres.now()[k]);
    run.without_centre.add(draw, shares[1]);
    centres.add(kWeights[h] / draw.probability, shares);
    design.observe({shares[2] + shares[3]});
  }
  return run;
}

TEST(JointShares, CoverAndSumToOne) {
  const double fails = failing_trials();
  const OutcomeShares truth = {0.2 - 0.1 * fails, 0.8 - 0.7 * fails, 0.5 * fails, 0.3 * fails};
  for (const Estimate estimate : {Estimate::kAsymptotic, Estimate::kBernstein})
    for (const std::uint64_t trials : {200u, 1000u}) {
      std::vector<Coverage> covered(4);
      Coverage without;
      for (std::uint64_t r = 0; r < kReplicates; ++r) {
        const SharesRun run = run_sequentially(estimate, r, trials);
        double sum = 0;
        for (std::size_t k = 0; k < 4; ++k) {
          covered[k].add(run.shares[k].interval(), truth[k]);
          sum += run.shares[k].interval().estimate;
        }
        EXPECT_NEAR(sum, 1, 0.02) << "exact where no share is cut at 0";
        without.add(run.without_centre.interval(), truth[1]);
      }
      for (std::size_t k = 0; k < 4; ++k) {
        const std::string name = "outcome " + std::to_string(k) + ", " + std::to_string(trials) +
                                 (estimate == Estimate::kBernstein ? ", guaranteed" : "");
        covered[k].print(name, truth[k]);
        EXPECT_GE(covered[k].share, 0.945) << name;
        EXPECT_NEAR(covered[k].estimate, truth[k], 0.003) << name;
      }
      EXPECT_LT(covered[1].half_width, without.half_width) << "a share near 1 gains most";
    }
}

TEST(Centres, AreOfRoundsUpToTheOneBeforeTheLast) {
  Centres centres;
  const OutcomeShares first = {1, 0, 0, 0}, second = {0, 1, 0, 0};
  for (int i = 0; i < 32; ++i) centres.add(i % 2 ? 1 : 3, i % 2 ? first : second);
  for (int i = 0; i < 64; ++i) {
    EXPECT_EQ(centres.round(), 1u);
    EXPECT_EQ(centres.now(), (OutcomeShares{0.25, 0.25, 0.25, 0.25}));
    centres.add(1, first);
  }
  EXPECT_EQ(centres.round(), 2u);
  EXPECT_EQ(centres.now(), (OutcomeShares{0.25, 0.75, 0, 0})) << "by weight, of round 0 alone";
}

/// X = c + W/q (y - c) may leave [0, 1] on either side; its range moves with c.
TEST(JointShares, TheGuaranteedSequenceTakesTheWholeRange) {
  EstimateOptions how;
  how.estimate = Estimate::kBernstein;
  how.weights = {1};
  Estimator estimator(how);
  for (const double centre : {0.0, 0.5, 1.0})
    for (const double value : {0.0, 1.0})
      EXPECT_NO_THROW(estimator.add({0, 0, 0.2}, value, centre)) << centre << " " << value;
  EXPECT_THROW(estimator.add({0, 0, 0.1}, 1, 0), Bug) << "a weight above 5";
}

// ---- stratified: losses over small blocks
// -----------------------------------------------------------

/// As ResNet-20 at BER 1e-7, 8 images a trial: without a critical flip hardly ever an image is
/// lost, so that a pilot of 30 shows no spread.
const std::vector<double> kBlockWeights = {0.972, 0.027, 0.001};

double loss(std::size_t stratum, Rng& rng) {
  const double u = rng.uniform();
  if (stratum == 0) return u < 0.004 ? -0.125 : 0;
  return u < (stratum == 1 ? 0.35 : 0.6) ? -0.75 : 0;
}
constexpr double kLoss = -(0.972 * 0.004 * 0.125 + 0.027 * 0.35 * 0.75 + 0.001 * 0.6 * 0.75);

Interval run_stratified(bool floored, std::uint64_t replicate) {
  DesignOptions plan;
  plan.sampling = Sampling::kStratified;
  plan.trials = 600;
  plan.weights = kBlockWeights;
  plan.costs = {1, 1, 1};
  plan.pilot = plan.minimum = 30;
  plan.losses = true;
  plan.floored = floored;
  plan.seed = replicate;
  Design design(plan);
  EstimateOptions how;
  how.estimate = Estimate::kGuarded;
  how.low = -1;
  how.weights = kBlockWeights;
  Estimator estimator(how);
  Rng rng({82, 0, replicate, Purpose::kSynthetic});
  for (std::uint64_t id = 0; id < plan.trials; ++id) {
    const TrialDraw draw = design.draw(id);
    const double value = loss(static_cast<std::size_t>(draw.stratum), rng);
    estimator.add(draw, value);
    design.observe({value});
  }
  return estimator.interval();
}

TEST(StratifiedBlocks, AreNotAllocatedAsWithoutSpread) {
  Coverage floored, before;
  for (std::uint64_t r = 0; r < kReplicates; ++r) {
    floored.add(run_stratified(true, r), kLoss);
    before.add(run_stratified(false, r), kLoss);
  }
  floored.print("blocks, floored", kLoss);
  before.print("blocks, by the pilot's spread", kLoss);
  EXPECT_GE(floored.share, 0.935);
  EXPECT_LT(floored.half_width, 0.6 * before.half_width);
}

}  // namespace
}  // namespace sentinel
