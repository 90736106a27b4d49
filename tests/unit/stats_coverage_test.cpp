/// Coverage of every estimator of a campaign, on a network whose faults were all tried: the truth
/// is a sum over golden/toy_outcomes.bin, replicates of campaigns are drawn from it. Nominal 0.95
/// is asked for to 0.935, 2.2 standard errors of 2000 replicates plus 0.005 for finite samples; of
/// conservative intervals 0.945.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "golden/toy_outcomes.hpp"
#include "sentinel/core/rng.hpp"
#include "sentinel/stats/sequential.hpp"
#include "sentinel/stats/stratified.hpp"

namespace sentinel {
namespace {

using test::kCritical;
using test::kSubsetBits;
using test::kSubsets;

constexpr std::uint64_t kSeed = 61;
constexpr std::uint64_t kReplicates = 2000;
constexpr int kTrials = 500;
constexpr double kCovers = 0.935, kCoversConservatively = 0.945;

const test::ToyOutcomes& toy() {
  static const test::ToyOutcomes outcomes =
      test::read_toy_outcomes(SENTINEL_GOLDEN_FOLDER "/toy_outcomes.bin");
  return outcomes;
}

double images() {
  return toy().images;
}

/// Every estimator has random numbers of its own.
enum class Stream : std::uint32_t {
  kSimpleAccuracy,
  kSimpleFlips,
  kStratifiedFlips,
  kStratifiedAccuracy,
  kPaired,
  kSequential,
  kPooled
};
Rng rng_of(Stream stream, std::uint64_t replicate) {
  return Rng({kSeed, static_cast<std::uint32_t>(stream), replicate, Purpose::kSynthetic});
}

/// What the intervals of many replicates were worth.
class Coverage {
 public:
  Coverage(std::string name, double truth) : name_(std::move(name)), truth_(truth) {}
  void add(const Interval& interval) {
    covered_ += interval.lower <= truth_ && truth_ <= interval.upper;
    estimates_.add(interval.estimate);
    half_widths_.add(interval.half_width());
  }
  double share() const { return covered_ / static_cast<double>(estimates_.n()); }
  /// Of the mean estimate, in its standard errors.
  double bias() const {
    const double error = std::sqrt(estimates_.variance() / static_cast<double>(estimates_.n()));
    return (estimates_.mean() - truth_) / error;
  }
  /// For humans, with the seed.
  std::string report() const {
    char line[200];
    std::snprintf(line, sizeof line,
                  "%-28s coverage %.4f, half-width %.5f, bias %+.1f standard errors (truth %.5f, "
                  "seed %d)\n",
                  name_.c_str(), share(), half_widths_.mean(), bias(), truth_,
                  static_cast<int>(kSeed));
    return line;
  }

 private:
  std::string name_;
  double truth_, covered_ = 0;
  Moments estimates_, half_widths_;
};

void expect_coverage(const Coverage& coverage, double least) {
  std::fputs(coverage.report().c_str(), stdout);
  EXPECT_GE(coverage.share(), least) << coverage.report();
}

void expect_unbiased(const Coverage& coverage) {
  EXPECT_LT(std::abs(coverage.bias()), 4) << coverage.report();
}

/// A negative control: what the tests above would find.
void expect_failure(const Coverage& coverage) {
  std::fputs(coverage.report().c_str(), stdout);
  EXPECT_LT(coverage.share(), kCovers) << coverage.report();
}

// ---- T1: share of images that fail under one random flip -------------------------------------

/// Bit classes {30}, {29-27}, {26-23}, {31}, {22-19}, {18-0}.
std::size_t bit_class(int bit) {
  if (bit == 30) return 0;
  if (bit == 31) return 3;
  if (bit >= 27) return 1;
  if (bit >= 23) return 2;
  return bit >= 19 ? 4 : 5;
}

/// The flips of the first classes.
struct Flips {
  explicit Flips(std::size_t classes) : weights(classes), shares(classes) {
    for (const test::FlipOutcome& flip : toy().flips)
      if (bit_class(flip.bit) < classes)
        shares[bit_class(flip.bit)].push_back(flip.failing / images());
    for (const auto& stratum : shares) all.insert(all.end(), stratum.begin(), stratum.end());
    truth = std::accumulate(all.begin(), all.end(), 0.0) / static_cast<double>(all.size());
    for (std::size_t h = 0; h < classes; ++h)
      weights[h] = static_cast<double>(shares[h].size()) / static_cast<double>(all.size());
  }
  std::size_t strata() const { return weights.size(); }

  std::vector<double> weights, all;
  std::vector<std::vector<double>> shares;  // of images, by class
  double truth = 0;
};

double draw(const std::vector<double>& values, Rng& rng) {
  return values[rng.below(values.size())];
}

using DrawFrom = std::function<double(std::size_t stratum, Rng&)>;

std::vector<Moments> draw_strata(const std::vector<std::uint64_t>& plan, const DrawFrom& draw_from,
                                 Rng& rng) {
  std::vector<Moments> strata(plan.size());
  for (std::size_t h = 0; h < plan.size(); ++h)
    for (std::uint64_t i = 0; i < plan[h]; ++i) strata[h].add(draw_from(h, rng));
  return strata;
}

std::vector<double> spreads_of(const std::vector<Moments>& pilot,
                               double (*spread)(const Moments&)) {
  std::vector<double> spreads;
  for (const Moments& moments : pilot) spreads.push_back(spread(moments));
  return spreads;
}

double deviation(const Moments& moments) {
  return std::sqrt(moments.variance());
}

TEST(Coverage, SimpleFlips) {
  const Flips flips(6);
  Coverage coverage("T1 Korn-Graubard", flips.truth);
  for (std::uint64_t r = 0; r < kReplicates; ++r) {
    Rng rng = rng_of(Stream::kSimpleFlips, r);
    Moments moments;
    for (int i = 0; i < kTrials; ++i) moments.add(draw(flips.all, rng));
    coverage.add(korn_graubard_interval(moments, 0.95));
  }
  expect_coverage(coverage, kCovers);
  expect_unbiased(coverage);
}

TEST(Coverage, StratifiedFlips) {
  const Flips flips(6);
  const DrawFrom from = [&](std::size_t h, Rng& rng) { return draw(flips.shares[h], rng); };
  const std::uint64_t pilot_size = std::max<std::uint64_t>(8, kTrials / 10 / flips.strata());
  Coverage satterthwaite("T1 stratified", flips.truth), mover("T1 MOVER", flips.truth);
  for (std::uint64_t r = 0; r < kReplicates; ++r) {
    Rng rng = rng_of(Stream::kStratifiedFlips, r);
    const std::vector<std::uint64_t> pilots(flips.strata(), pilot_size);
    const auto spreads = spreads_of(draw_strata(pilots, from, rng), smoothed_spread);
    const auto plan = allocate(kTrials, flips.weights, spreads, {1, 1, 1, 1, 1, 1}, 3);
    const auto strata = draw_strata(plan, from, rng);
    satterthwaite.add(stratified_interval(flips.weights, strata, 0.95, 0, 1));
    mover.add(mover_interval(flips.weights, strata, 0.95));
  }
  expect_coverage(satterthwaite, kCovers);
  expect_unbiased(satterthwaite);
  expect_coverage(mover, kCoversConservatively);
}

/// Three classes seldom fail, as those of a trained network do: whole trials of rate r_h. A spread
/// of 0 taken at its word covers 0.87 here (0.61 with 200 trials).
TEST(Coverage, StrataThatSeldomFail) {
  const std::vector<double> weights = Flips(6).weights, rates{0.95, 0.02, 0.001, 0.005, 0, 0},
                            sizes{0.9, 0.5, 0.3, 0.2, 0.1, 0.1};
  double truth = 0;
  for (std::size_t h = 0; h < 6; ++h) truth += weights[h] * rates[h] * sizes[h];
  const DrawFrom from = [&](std::size_t h, Rng& rng) {
    return rng.uniform() < rates[h] ? sizes[h] : 0;
  };
  Coverage coverage("T1 stratified, rare", truth);
  for (std::uint64_t r = 0; r < kReplicates; ++r) {
    Rng rng = rng_of(Stream::kStratifiedFlips, kReplicates + r);
    const auto spreads = spreads_of(draw_strata({8, 8, 8, 8, 8, 8}, from, rng), smoothed_spread);
    const auto plan = allocate(kTrials, weights, spreads, {1, 1, 1, 1, 1, 1}, 3);
    coverage.add(stratified_interval(weights, draw_strata(plan, from, rng), 0.95, 0, 1));
  }
  expect_coverage(coverage, kCovers);
  expect_unbiased(coverage);
}

/// Neyman allocation by the spread of a pilot, without smoothing: a pilot without failures gets few
/// trials more, so that pooled into the estimate it counts too much.
TEST(NegativeControl, PooledPilotIsBiasedAndDoesNotCover) {
  const Flips flips(4);
  const DrawFrom from = [&](std::size_t h, Rng& rng) { return draw(flips.shares[h], rng); };
  const std::vector<std::uint64_t> pilots(4, 8);
  Coverage pooled("pilot pooled", flips.truth), separate("pilot apart", flips.truth);
  for (std::uint64_t r = 0; r < kReplicates; ++r) {
    Rng rng = rng_of(Stream::kPooled, r);
    std::vector<std::vector<double>> values(4);
    const DrawFrom remembered = [&](std::size_t h, Rng& random) {
      values[h].push_back(from(h, random));
      return values[h].back();
    };
    const auto spreads = spreads_of(draw_strata(pilots, remembered, rng), deviation);
    const auto plan = allocate(60, flips.weights, spreads, {1, 1, 1, 1}, 3);
    const auto strata = draw_strata(plan, remembered, rng);
    std::vector<Moments> both(4);
    for (std::size_t h = 0; h < 4; ++h)
      for (const double value : values[h]) both[h].add(value);
    separate.add(stratified_interval(flips.weights, strata, 0.95, 0, 1));
    pooled.add(stratified_interval(flips.weights, both, 0.95, 0, 1));
  }
  expect_failure(pooled);
  EXPECT_GT(std::abs(pooled.bias()), 4) << pooled.report();
  std::fputs(separate.report().c_str(), stdout);
  expect_unbiased(separate);
}

// ---- sequential T1 ---------------------------------------------------------------------------

constexpr int kRound = 256, kRounds = 40;
constexpr double kTuned = 1000;

/// Looks at one interval after every round.
struct Looks {
  bool all_cover = true, stopped = false;
  Interval at_stop;
  void add(const Interval& interval, double truth, double half_width) {
    all_cover = all_cover && interval.lower <= truth && truth <= interval.upper;
    if (stopped) return;
    at_stop = interval;  // the last one where the cap comes first
    stopped = interval.half_width() <= half_width;
  }
};

struct SequentialRun {
  Looks asymptotic, guaranteed, wald;
  Interval last;  // asymptotic, at the cap
};

class SequentialPlan {
 public:
  explicit SequentialPlan(const Flips& flips) : flips_(flips), seen_(flips.strata()) {}
  /// Probabilities of the next round, from the rounds before the last one.
  std::vector<double> probabilities() {
    const auto q = draw_probabilities(flips_.weights, spreads_of(seen_, smoothed_spread));
    for (const auto& [stratum, share] : last_) seen_[stratum].add(share);
    last_.clear();
    return q;
  }
  /// X of one trial.
  double draw_trial(const std::vector<double>& q, Rng& rng) {
    double u = rng.uniform();
    std::size_t h = 0;
    while (h + 1 < q.size() && u >= q[h]) u -= q[h++];
    const double share = draw(flips_.shares[h], rng);
    last_.push_back({h, share});
    failures_ += share > 0;
    return flips_.weights[h] / q[h] * share;
  }
  int failures() const { return failures_; }

 private:
  const Flips& flips_;
  std::vector<Moments> seen_;
  std::vector<std::pair<std::size_t, double>> last_;
  int failures_ = 0;
};

/// X in [0, 5].
Interval times_five(Interval interval) {
  interval.estimate *= 5;
  interval.lower *= 5;
  interval.upper = std::min(1.0, interval.upper * 5);
  return interval;
}

SequentialRun run_sequentially(const Flips& flips, Rng& rng) {
  SequentialPlan plan(flips);
  AsymptoticSequence asymptotic(0.95, kTuned);
  BernsteinSequence guaranteed(0.95);
  Moments moments;
  SequentialRun run;
  for (int round = 0; round < kRounds; ++round) {
    const auto q = plan.probabilities();
    for (int i = 0; i < kRound; ++i) {
      const double x = plan.draw_trial(q, rng);
      asymptotic.add(x);
      guaranteed.add(x / 5);
      moments.add(x);
    }
    run.last = asymptotic.interval(0, 1);
    if (moments.n() < 200 || plan.failures() < 20) continue;
    run.asymptotic.add(run.last, flips.truth, 0.004);
    run.guaranteed.add(times_five(guaranteed.interval()), flips.truth, 0.012);
    run.wald.add(t_interval(moments, 0.95, 0, 1), flips.truth, 0.004);
  }
  return run;
}

/// Coverage at the stopping time, and how often every look covered.
class SequenceCoverage {
 public:
  SequenceCoverage(const std::string& name, double truth) : at_stop(name + " at stop", truth) {}
  void add(const Looks& looks) {
    at_stop.add(looks.at_stop);
    all_covered_ += looks.all_cover;
    stopped_ += looks.stopped;
    trials_.add(static_cast<double>(looks.at_stop.n));
  }
  double uniform() const { return all_covered_ / kReplicates; }
  double stopped() const { return stopped_ / kReplicates; }
  std::string report() const {
    char line[160];
    std::snprintf(line, sizeof line,
                  "  all looks cover %.4f, stopped before the cap %.4f, mean trials %.0f\n",
                  uniform(), stopped(), trials_.mean());
    return at_stop.report() + line;
  }
  Coverage at_stop;

 private:
  double all_covered_ = 0, stopped_ = 0;
  Moments trials_;
};

void expect_sequence(const SequenceCoverage& coverage) {
  std::fputs(coverage.report().c_str(), stdout);
  EXPECT_GE(coverage.at_stop.share(), kCoversConservatively) << coverage.report();
  EXPECT_GE(coverage.uniform(), kCoversConservatively) << coverage.report();
  EXPECT_GT(coverage.stopped(), 0.9)
      << "the rule must have something to stop: " << coverage.report();
}

TEST(Coverage, SequencesAndTheControlOfPeeking) {
  const Flips flips(6);
  SequenceCoverage asymptotic("asymptotic", flips.truth), guaranteed("Bernstein", flips.truth),
      wald("Wald", flips.truth);
  Coverage at_cap("asymptotic at the cap", flips.truth);
  for (std::uint64_t r = 0; r < kReplicates; ++r) {
    Rng rng = rng_of(Stream::kSequential, r);
    const SequentialRun run = run_sequentially(flips, rng);
    asymptotic.add(run.asymptotic);
    guaranteed.add(run.guaranteed);
    wald.add(run.wald);
    at_cap.add(run.last);
  }
  expect_sequence(asymptotic);
  expect_sequence(guaranteed);
  expect_coverage(at_cap, kCoversConservatively);
  expect_unbiased(at_cap);  // at a stopping time no estimator needs to be
  std::fputs(wald.report().c_str(), stdout);
  EXPECT_LT(wald.uniform(), kCovers) << "negative control: " << wald.report();
}

// ---- T2: accuracy where each of the chosen bits flips with probability beta --------------------

constexpr double kBeta = 0.05;

double share_of(const std::vector<std::uint8_t>& correct, std::uint32_t subset) {
  return correct[subset] / images();
}

double probability(std::uint32_t subset) {
  double p = 1;
  for (std::uint32_t i = 0; i < kSubsetBits; ++i) p *= subset >> i & 1 ? kBeta : 1 - kBeta;
  return p;
}

double expectation(const std::function<double(std::uint32_t)>& value) {
  double sum = 0;
  for (std::uint32_t subset = 0; subset < kSubsets; ++subset)
    sum += probability(subset) * value(subset);
  return sum;
}

double expected_accuracy() {
  return expectation([](std::uint32_t subset) { return share_of(toy().correct, subset); });
}

std::uint32_t draw_bits(std::uint32_t begin, std::uint32_t end, Rng& rng) {
  std::uint32_t subset = 0;
  for (std::uint32_t i = begin; i < end; ++i) subset |= std::uint32_t{rng.uniform() < kBeta} << i;
  return subset;
}

TEST(Coverage, SimpleAccuracyAndTheControlOfImages) {
  const double truth = expected_accuracy();
  Coverage coverage("T2 t over trials", truth), binomial("T2 binomial over images", truth);
  for (std::uint64_t r = 0; r < kReplicates; ++r) {
    Rng rng = rng_of(Stream::kSimpleAccuracy, r);
    Moments moments;
    for (int i = 0; i < kTrials; ++i)
      moments.add(share_of(toy().correct, draw_bits(0, kSubsetBits, rng)));
    coverage.add(t_interval(moments, 0.95, 0, 1));
    const double p = moments.mean();
    const double half_width = 1.96 * std::sqrt(p * (1 - p) / (kTrials * images()));
    binomial.add({p, p - half_width, p + half_width, 0.95, "", kTrials});
  }
  expect_coverage(coverage, kCovers);
  expect_unbiased(coverage);
  expect_failure(binomial);
}

TEST(Coverage, PairedDifference) {
  const auto gain = [](std::uint32_t subset) {
    return share_of(toy().correct_protected, subset) - share_of(toy().correct, subset);
  };
  Coverage coverage("T2 paired difference", expectation(gain));
  for (std::uint64_t r = 0; r < kReplicates; ++r) {
    Rng rng = rng_of(Stream::kPaired, r);
    Moments moments;
    for (int i = 0; i < kTrials; ++i) moments.add(gain(draw_bits(0, kSubsetBits, rng)));
    coverage.add(t_interval(moments, 0.95, -1, 1));
  }
  expect_coverage(coverage, kCovers);
  expect_unbiased(coverage);
}

/// P(K = k), K of the critical bits flipped.
std::vector<double> critical_weights() {
  std::vector<double> weights;
  double choose = 1;
  for (std::uint32_t k = 0; k <= kCritical; ++k) {
    weights.push_back(choose * std::pow(kBeta, k) * std::pow(1 - kBeta, kCritical - k));
    choose *= (kCritical - k) / (k + 1.0);
  }
  return weights;
}

/// K = 0, 1, … k_max one by one, more of them pooled where together they are below 0.01.
struct CriticalStrata {
  CriticalStrata() {
    const std::vector<double> all = critical_weights();
    double left = 1;
    for (pooled_from = 0; left >= 0.01; ++pooled_from) {
      weights.push_back(all[pooled_from]);
      left -= all[pooled_from];
    }
    weights.push_back(left);
    given.assign(all.begin() + pooled_from, all.end());
  }
  std::uint32_t draw_subset(std::size_t stratum, Rng& rng) const {
    std::size_t k = stratum;
    if (stratum == pooled_from)
      for (double u = rng.uniform() * weights.back(); k < kCritical && u >= given[k - pooled_from];)
        u -= given[k++ - pooled_from];
    const auto order = rng.permutation(kCritical);
    std::uint32_t subset = draw_bits(kCritical, kSubsetBits, rng);
    for (std::size_t i = 0; i < k; ++i) subset |= 1u << order[i];
    return subset;
  }
  std::vector<double> weights;
  std::vector<double> given;  // P(K = pooled_from, …)
  std::uint32_t pooled_from = 0;
};

TEST(Coverage, StratifiedAccuracy) {
  const CriticalStrata critical;
  ASSERT_EQ(critical.weights.size(), 4u);  // K = 0, 1, 2, more
  const std::vector<std::uint64_t> pilots(4, 30);
  const DrawFrom from = [&](std::size_t h, Rng& rng) {
    return share_of(toy().correct, critical.draw_subset(h, rng));
  };
  Coverage coverage("T2 stratified", expected_accuracy());
  for (std::uint64_t r = 0; r < kReplicates; ++r) {
    Rng rng = rng_of(Stream::kStratifiedAccuracy, r);
    const auto spreads = spreads_of(draw_strata(pilots, from, rng), deviation);
    const auto plan = allocate(kTrials, critical.weights, spreads, {1, 1, 1, 1}, 30);
    coverage.add(stratified_interval(critical.weights, draw_strata(plan, from, rng), 0.95, 0, 1));
  }
  expect_coverage(coverage, kCovers);
  expect_unbiased(coverage);
}

}  // namespace
}  // namespace sentinel
