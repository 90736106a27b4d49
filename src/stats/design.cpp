#include "sentinel/stats/design.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "sentinel/core/error.hpp"
#include "sentinel/core/rng.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/stats/stratified.hpp"

namespace sentinel {
namespace {

/// One over the least share of its weight with which a stratum is drawn (draw_probabilities).
constexpr double kLargestWeight = 5;
/// What a further round of an allocated plan aims at, relative to the half-width.
constexpr double kAim = 0.95;
/// Trials of the first round of an allocated plan, at most; the others at most double the sum.
constexpr std::uint64_t kMostAtFirst = 4096;

std::int32_t pick(const std::vector<double>& probabilities, double uniform) {
  double sum = 0;
  for (std::size_t h = 0; h < probabilities.size(); ++h)
    if (uniform < (sum += probabilities[h])) return static_cast<std::int32_t>(h);
  // Rounding may leave the sum a little below 1.
  return static_cast<std::int32_t>(probabilities.size()) - 1;
}

}  // namespace

Design::Design(DesignOptions options) : options_(std::move(options)) {
  observed_by_.resize(options_.weights.size());
  switch (options_.sampling) {
    case Sampling::kSimple:
    case Sampling::kEqual:
      ready_ = options_.trials;
      return;
    case Sampling::kStratified:
      plan_pilot();
      return;
    case Sampling::kSequential:
      plan_round();
      plan_round();
      return;
    case Sampling::kAllocated:
      plan_allocated();
      return;
  }
}

void Design::plan_pilot() {
  const auto strata = static_cast<std::uint64_t>(options_.weights.size());
  const auto share = static_cast<std::uint64_t>(std::llround(
      options_.pilot_share * static_cast<double>(options_.trials) / static_cast<double>(strata)));
  const std::uint64_t each = std::max(options_.pilot, share);
  const std::uint64_t least = strata * (each + options_.minimum);
  if (options_.trials < least)
    throw UserError("a stratified plan of " + std::to_string(strata) + " strata needs at least " +
                    std::to_string(least) + " trials, not " + std::to_string(options_.trials) +
                    "; give a larger " + spelled(Setting::kRepeat));
  ready_ = strata * each;
  rounds_.push_back({0, ready_, 1, std::vector<double>(strata, 1 / static_cast<double>(strata)),
                     std::vector<std::uint64_t>(strata, each)});
}

void Design::plan_main() {
  const std::uint64_t trials = options_.trials - ready_;
  allot(allocate(trials, options_.weights, spreads(), options_.costs, options_.minimum), trials);
}

/// A round of `trials` trials that are to come from the strata so often. They do in a random order,
/// so that a campaign that is stopped, or at its last trial, has some of every stratum.
void Design::allot(const std::vector<std::uint64_t>& allocated, std::uint64_t trials) {
  std::vector<std::int32_t> grouped;
  Round round{ready_, std::min(trials, options_.trials - ready_), 0, {}, allocated};
  for (std::size_t h = 0; h < allocated.size(); ++h) {
    grouped.insert(grouped.end(), allocated[h], static_cast<std::int32_t>(h));
    round.probabilities.push_back(static_cast<double>(allocated[h]) / static_cast<double>(trials));
  }
  Rng rng({options_.seed, options_.point, main_.size(), Purpose::kStrata});
  for (const std::int64_t place : rng.permutation(static_cast<std::int64_t>(trials)))
    main_.push_back(grouped[static_cast<std::size_t>(place)]);
  ready_ += round.trials;
  rounds_.push_back(std::move(round));
}

/// Nothing once the half-width is reached: then what is there is enough.
void Design::plan_allocated() {
  if (ready_ >= options_.trials) return;
  std::vector<double> shares;
  std::vector<std::uint64_t> there;
  for (std::size_t h = 0; h < options_.weights.size(); ++h) {
    const bool met = !observed_by_[h].empty();
    shares.push_back(met ? observed_by_[h].front().mean() : options_.supposed.at(h));
    there.push_back(met ? observed_by_[h].front().n() : 0);
  }
  const auto wanted = [&](double half_width) {
    return allocate_for(half_width, options_.precision.confidence, options_.weights, shares, there,
                        ready_ == 0 ? kMostAtFirst : 2 * ready_);
  };
  std::vector<std::uint64_t> allocated = wanted(options_.precision.half_width);
  if (allocated == there) return;
  if (ready_ > 0) allocated = wanted(kAim * options_.precision.half_width);
  for (std::size_t h = 0; h < there.size(); ++h) allocated[h] -= there[h];
  allot(allocated, std::accumulate(allocated.begin(), allocated.end(), std::uint64_t{0}));
}

std::uint64_t Design::round_after(std::uint64_t trials) {
  return trials == 0 ? kFirstRoundTrials : std::min(2 * trials, kRoundTrials);
}

void Design::plan_round() {
  if (ready_ >= options_.trials) return;
  const std::uint64_t length = round_after(rounds_.empty() ? 0 : rounds_.back().trials);
  const std::uint64_t trials = std::min(length, options_.trials - ready_);
  rounds_.push_back({ready_, trials, 0, draw_probabilities(options_.weights, spreads()), {}});
  ready_ += trials;
}

/// What a stratum costs an estimate: of drawn strata the size of what is weighted, of fixed ones
/// the spread within.
double Design::spread(const Moments& observed) const {
  if (!options_.losses) return smoothed_spread(observed);
  if (options_.sampling == Sampling::kSequential) return smoothed_size(observed);
  return std::sqrt(options_.floored ? floored_variance(observed, -1, 1) : observed.variance());
}

/// By stratum, the root mean square of those of the models, which share their strata.
std::vector<double> Design::spreads() const {
  std::vector<double> all;
  for (const std::vector<Moments>& models : observed_by_) {
    double sum = 0;
    for (const Moments& model : models) sum += spread(model) * spread(model);
    all.push_back(models.empty() ? spread({})
                                 : std::sqrt(sum / static_cast<double>(models.size())));
  }
  return all;
}

const Design::Round& Design::round_of(std::uint64_t id) const {
  return *(std::upper_bound(rounds_.begin(), rounds_.end(), id,
                            [](std::uint64_t i, const Round& round) { return i < round.first; }) -
           1);
}

TrialDraw Design::draw(std::uint64_t id) const {
  if (id >= ready_) throw Bug("a trial is drawn before its round is planned");
  switch (options_.sampling) {
    case Sampling::kSimple:
      return {};
    case Sampling::kEqual: {
      const std::size_t strata = options_.weights.size();
      return {0, static_cast<std::int32_t>(id % strata), 1 / static_cast<double>(strata)};
    }
    case Sampling::kStratified: {
      const Round& pilot = rounds_.front();
      const bool main = id >= pilot.trials;
      const std::int32_t h =
          main ? main_[id - pilot.trials] : static_cast<std::int32_t>(id % options_.weights.size());
      const Round& round = rounds_[main ? 1 : 0];
      return {round.stage, h, round.probabilities[static_cast<std::size_t>(h)]};
    }
    case Sampling::kAllocated: {
      const std::int32_t h = main_[id];
      return {0, h, round_of(id).probabilities[static_cast<std::size_t>(h)]};
    }
    case Sampling::kSequential: {
      const Round& round = round_of(id);
      Rng rng({options_.seed, options_.point, id, Purpose::kStrata});
      const std::int32_t h = pick(round.probabilities, rng.uniform());
      return {0, h, round.probabilities[static_cast<std::size_t>(h)]};
    }
  }
  throw Bug("unknown sampling");
}

void Design::observe(const std::vector<double>& values) {
  const std::int32_t stratum = draw(observed_).stratum;
  ++observed_;
  if (stratum < 0) return;
  std::vector<Moments>& models = observed_by_[static_cast<std::size_t>(stratum)];
  models.resize(values.size());
  for (std::size_t m = 0; m < values.size(); ++m) models[m].add(values[m]);
  if (options_.sampling == Sampling::kSequential && at_round_end()) plan_round();
  if (options_.sampling == Sampling::kAllocated && at_round_end()) plan_allocated();
  if (options_.sampling == Sampling::kStratified && main_.empty() && observed_ == ready_)
    plan_main();
}

bool Design::at_round_end() const {
  if (observed_ == 0) return false;
  const Round& last = round_of(observed_ - 1);
  return observed_ == last.first + last.trials;
}

Estimator::Estimator(const EstimateOptions& options) : options_(options) {
  const bool stratified = options.estimate == Estimate::kStratified ||
                          options.estimate == Estimate::kGuarded ||
                          options.estimate == Estimate::kMover;
  strata_.resize(stratified ? options.weights.size() : 1);
  samples_.resize(options.estimate == Estimate::kJoined ? options.weights.size() : 1);
  if (options.estimate == Estimate::kAsymptotic)
    sequence_ = AsymptoticSequence(options.confidence, options.tuned_for,
                                   kLargestWeight * std::max(-options.low, options.high));
  if (options.estimate == Estimate::kBernstein) sequence_ = BernsteinSequence(options.confidence);
}

/// Its mean is that of the population, whatever the q_h.
double Estimator::weighted(const TrialDraw& draw, double value, double centre) const {
  const double weight = options_.weights.at(static_cast<std::size_t>(draw.stratum));
  return centre + weight / draw.probability * (value - centre);
}

void Estimator::add(const TrialDraw& draw, double value, double centre) {
  if (draw.stage != 0) return;
  switch (options_.estimate) {
    case Estimate::kMean:
      samples_[0].add(value);
      return;
    case Estimate::kJoined:
      samples_.at(static_cast<std::size_t>(draw.stratum)).add(value);
      return;
    case Estimate::kCount:
      strata_[0].add(value - options_.low);
      return;
    case Estimate::kShare:
      strata_[0].add(value);
      return;
    case Estimate::kStratified:
    case Estimate::kGuarded:
    case Estimate::kMover:
      strata_.at(static_cast<std::size_t>(draw.stratum)).add(value);
      return;
    case Estimate::kAsymptotic:
    case Estimate::kBernstein:
      add_to_sequence(draw, value, centre);
      return;
  }
}

void Estimator::add_to_sequence(const TrialDraw& draw, double value, double centre) {
  const double x = weighted(draw, value, centre);
  if (auto* sequence = std::get_if<AsymptoticSequence>(&sequence_)) return sequence->add(x, value);
  // x lies in [centre + 5 (low - centre), centre + 5 (high - centre)]: of width 5 (high - low), and
  // from 5 low on where the centre is 0.
  const double low = kLargestWeight * options_.low;
  const double range = kLargestWeight * (options_.high - options_.low);
  std::get<BernsteinSequence>(sequence_).add((x - low) / range,
                                             (1 - kLargestWeight) * centre / range);
}

std::uint64_t Estimator::trials() const {
  if (const auto* sequence = std::get_if<AsymptoticSequence>(&sequence_)) return sequence->n();
  if (const auto* sequence = std::get_if<BernsteinSequence>(&sequence_)) return sequence->n();
  std::uint64_t sum = 0;
  for (const Sample& sample : samples_) sum += sample.n();
  for (const Moments& stratum : strata_) sum += stratum.n();
  return sum;
}

Interval Estimator::interval() const {
  Interval interval = of_trials();
  const double known = options_.known_weight;
  if (known == 0) return interval;
  for (double* end : {&interval.estimate, &interval.lower, &interval.upper})
    *end = known * options_.known_value + (1 - known) * *end;
  return interval;
}

/// Of the population but for what is known.
Interval Estimator::of_trials() const {
  const EstimateOptions& o = options_;
  switch (o.estimate) {
    case Estimate::kMean:
      return samples_[0].interval(o.confidence, o.low, o.high);
    case Estimate::kJoined: {
      std::vector<Interval> parts;
      for (const Sample& sample : samples_)
        parts.push_back(sample.interval(o.confidence, o.low, o.high));
      return mover_mean(o.weights, parts, o.low, o.high);
    }
    case Estimate::kCount: {
      Interval interval = count_interval(strata_[0], o.images_per_trial, o.confidence);
      for (double* end : {&interval.estimate, &interval.lower, &interval.upper}) *end += o.low;
      return interval;
    }
    case Estimate::kShare:
      return korn_graubard_interval(strata_[0], o.confidence, o.population);
    case Estimate::kStratified:
      return stratified_interval(o.weights, strata_, o.confidence, o.low, o.high);
    case Estimate::kGuarded:
      return guarded_interval(o.weights, strata_, o.confidence, o.low, o.high);
    case Estimate::kMover:
      return mover_interval(o.weights, strata_, o.confidence);
    case Estimate::kAsymptotic:
      return std::get<AsymptoticSequence>(sequence_).interval(o.low, o.high);
    case Estimate::kBernstein: {
      Interval interval = std::get<BernsteinSequence>(sequence_).interval();
      const double low = kLargestWeight * o.low, range = kLargestWeight * (o.high - o.low);
      interval.estimate = low + range * interval.estimate;
      interval.lower = std::max(o.low, low + range * interval.lower);
      interval.upper = std::min(o.high, low + range * interval.upper);
      return interval;
    }
  }
  throw Bug("unknown estimate");
}

}  // namespace sentinel
