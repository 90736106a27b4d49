#pragma once
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "sentinel/core/sampling_words.hpp"
#include "sentinel/stats/betting.hpp"
#include "sentinel/stats/interval.hpp"
#include "sentinel/stats/precision.hpp"
#include "sentinel/stats/sequential.hpp"

namespace sentinel {

/// What the plan says of one trial beside its number.
struct TrialDraw {
  std::uint8_t stage = 0;     // 0 = main sample, 1 = pilot: for allocation only, in no estimate
  std::int32_t stratum = -1;  // -1: not stratified
  double probability = 1;     // of its stratum
};

/// Trials that each stratum of an equal plan must have: fewer have no interval.
constexpr std::uint64_t kLeastOfEach = 2;

struct DesignOptions {
  Sampling sampling = Sampling::kSimple;
  std::uint64_t trials = 0;  // all of them, pilot included; sequential, allocated: at most
  std::vector<double> weights, costs;  // of the strata: shares of the population; relative costs
  std::uint64_t pilot = 8;             // stratified: per stratum at least so many of the pilot …
  double pilot_share = 0;              // … and at least this share of all trials together
  std::uint64_t minimum = 3;  // stratified: per stratum at least so many of the main sample
  Precision precision;        // allocated: of mover_interval
  std::vector<double> supposed;  // allocated: the share of each stratum before anything is known
  bool losses = false;      // what is observed: shares in [0, 1], or losses in [-1, 1] around zero
  bool floored = false;     // stratified, losses: a stratum without spread in its pilot counts as
                            // half a trial that loses all (floored_variance), not as without
  std::uint64_t seed = 0;   // of the campaign
  std::uint32_t point = 0;  // its number
};

/// Which strata the trials of a point come from. Everything is a function of the options and of the
/// trials observed so far in the order of their numbers, in rounds that no number of ranks changes:
/// round r of a sequential plan is drawn by what rounds up to r - 2 showed. Its first rounds are
/// short (32, 64, 128 trials), as they are drawn by little knowledge. A round of an allocated plan
/// is made from all before it (of one model), by allocate_for: the first for the supposed shares,
/// others for those observed and a little less than the half-width, so that one of them is mostly
/// enough, and with no more trials than there were (the first: 4096); none once the half-width is
/// reached. An equal plan has no rounds, and looks at nothing.
class Design {
 public:
  static constexpr std::uint64_t kRoundTrials = 256, kFirstRoundTrials = 32;

  /// Trials of a sequential plan's round after one of so many (0: of the first).
  static std::uint64_t round_after(std::uint64_t trials);

  /// UserError where a stratified plan has too few trials for its pilot and minimum.
  explicit Design(DesignOptions options);

  /// Trials 0 ... ready() - 1 can be drawn now; drawing or observing another is a Bug.
  std::uint64_t ready() const { return ready_; }
  TrialDraw draw(std::uint64_t id) const;

  /// What the next trial showed (trial number `observed()`), one value per model.
  void observe(const std::vector<double>& values);
  std::uint64_t observed() const { return observed_; }
  /// Whether the trials observed so far end a round, the moment to look at a plan that may stop.
  bool at_round_end() const;

  /// The plan as far as it is made.
  struct Round {
    std::uint64_t first = 0, trials = 0;
    std::uint8_t stage = 0;
    std::vector<double> probabilities;     // by stratum
    std::vector<std::uint64_t> allocated;  // by stratum; empty where they are drawn. A last round
                                           // that is cut short by `trials` has its first of them
  };
  const std::vector<Round>& rounds() const { return rounds_; }

 private:
  void plan_pilot();
  void plan_main();
  void plan_round();
  void plan_allocated();
  void allot(const std::vector<std::uint64_t>& allocated, std::uint64_t trials);
  const Round& round_of(std::uint64_t id) const;
  double spread(const Moments& observed) const;
  std::vector<double> spreads() const;

  DesignOptions options_;
  std::uint64_t ready_ = 0, observed_ = 0;
  std::vector<Round> rounds_;
  std::vector<std::int32_t> main_;  // stratum of each trial of allotted rounds (stage 0)
  std::vector<std::vector<Moments>> observed_by_;  // [stratum][model]
};

/// Which interval an Estimator gives.
enum class Estimate : std::uint8_t {
  kMean,        // betting or t over trials (Sample)
  kShare,       // Korn-Graubard
  kCount,       // count_interval, of values that are low or low + 1 for each image of a trial
  kStratified,  // Satterthwaite
  kGuarded,     // the same, of losses: guarded_interval
  kJoined,      // that of kMean for each stratum, joined by mover_mean: also where losses are rare
  kMover,
  kAsymptotic,  // confidence sequence over inverse-probability weighted observations
  kBernstein,   // the same, guaranteed for every number of trials
};

/// What an Estimator needs to know.
struct EstimateOptions {
  Estimate estimate = Estimate::kMean;
  double confidence = 0.95;
  double low = 0, high = 1;     // range of the observations; contains 0
  std::vector<double> weights;  // of the strata, for all but kMean and kShare
  double tuned_for = 1000;      // trials around which the asymptotic sequence is tightest
  /// A stratum that is known without trials: its share of the population and value. The weights
  /// above are then of what is left, and so is what the trials of a Design come from.
  double known_weight = 0, known_value = 0;
  std::int64_t images_per_trial = 0;  // kCount
  std::uint64_t population =
      0;  // kShare: trials are drawn from so many without replacement; 0: any
};

/// The mean of one quantity over the population from the trials of a Design, added in the order of
/// their numbers; trials of the pilot are left out.
class Estimator {
 public:
  explicit Estimator(const EstimateOptions& options);
  /// `centre`: in the range, of what was known before the round; of drawn strata (the last two)
  /// what is averaged is centre + W_h/q_h (value - centre), unbiased whatever the centre. Values
  /// and centres that each sum to 1 give averages that do.
  void add(const TrialDraw& draw, double value, double centre = 0);
  Interval interval() const;
  std::uint64_t trials() const;

 private:
  double weighted(const TrialDraw& draw, double value, double centre) const;
  Interval of_trials() const;
  void add_to_sequence(const TrialDraw& draw, double value, double centre);
  EstimateOptions options_;
  std::vector<Sample> samples_;  // kMean (one), kJoined
  std::vector<Moments> strata_;  // kShare (one), kStratified, kGuarded, kMover
  std::variant<std::monostate, AsymptoticSequence, BernsteinSequence> sequence_;
};

}  // namespace sentinel
