#include "sentinel/results/estimates.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <numeric>

#include "sentinel/core/error.hpp"
#include "sentinel/results/point_strata.hpp"
#include "sentinel/stats/stratified.hpp"

namespace sentinel {
namespace {

constexpr std::uint64_t kLeastTrials = 200, kLeastFailing = 20;  // before a sequential plan stops

struct Quantity {
  const char* name;
  /// Images predicted right, estimated as the difference to the fault-free network on the same
  /// images. Null: a share of outcomes.
  std::uint32_t TrialRow::*right;
  OutcomeShares outcomes;  // which of them
};
constexpr std::array<Quantity, 7> kQuantities = {
    {{"accuracy", &TrialRow::correct, {}},
     {"sdc_critical", nullptr, {0, 0, 1, 0}},
     {"due", nullptr, {0, 0, 0, 1}},
     {"failing", nullptr, {0, 0, 1, 1}},
     {"sdc_noncritical", nullptr, {0, 1, 0, 0}},
     {"masked", nullptr, {1, 0, 0, 0}},
     {"accuracy_argmax", &TrialRow::correct_argmax, {}}}};
constexpr std::size_t kAccuracy = 0, kCritical = 1, kDue = 2, kFailing = 3, kNonCritical = 4,
                      kMasked = 5;

constexpr OutcomeShares kFaultFreeOutcomes = {1, 0, 0, 0};

double sum_of(const OutcomeShares& chosen, const OutcomeShares& of) {
  return std::inner_product(chosen.begin(), chosen.end(), of.begin(), 0.0);
}

/// Images by outcome.
OutcomeShares counts(const TrialRow& row) {
  return {double(row.masked), double(row.sdc_noncritical), double(row.sdc_critical),
          double(row.due)};
}

/// Accuracy without faults by block of images; of all of them where there are no blocks.
std::vector<double> fault_free_by_block(const ResultInfo& info, const ModelInfo& model) {
  if (info.image_blocks.empty())
    return {static_cast<double>(model.correct) / static_cast<double>(model.images)};
  const auto blocks = static_cast<std::size_t>(
      *std::max_element(info.image_blocks.begin(), info.image_blocks.end()) + 1);
  std::vector<double> correct(blocks), images(blocks);
  for (std::size_t i = 0; i < info.image_blocks.size(); ++i) {
    const auto block = static_cast<std::size_t>(info.image_blocks[i]);
    correct[block] += model.golden_predictions.at(i) == info.labels.at(i) ? 1 : 0;
    ++images[block];
  }
  for (std::size_t b = 0; b < blocks; ++b) correct[b] /= images[b];
  return correct;
}

const SamplingWord& word_of(const PlanInfo& plan) {
  return sentinel::sampling_of(plan.sampling);
}

bool is_simple(const PlanInfo& plan) {
  return plan.sampling == PlanInfo().sampling;
}

PlanInfo plan_of(const ResultInfo& info, std::uint32_t point) {
  return point < info.plans.size() ? info.plans[point] : PlanInfo();
}

Interval shifted(Interval interval, double by, double low, double high) {
  for (double* value : {&interval.estimate, &interval.lower, &interval.upper})
    *value = std::clamp(*value + by, low, high);
  return interval;
}

EstimateRow to_row(const Interval& interval, std::uint32_t point, std::size_t model,
                   const std::string& quantity) {
  EstimateRow row;
  row.point = point;
  row.model = static_cast<std::int32_t>(model);
  row.quantity = quantity;
  row.estimate = interval.estimate;
  row.lower = interval.lower;
  row.upper = interval.upper;
  row.confidence = interval.confidence;
  row.method = interval.method;
  row.trials = interval.n;
  return row;
}

double share(const TrialRow& row, double count) {
  return count / static_cast<double>(row.images);
}

bool any_failing(const TrialRow& row) {
  return row.sdc_critical + row.due > 0;
}

/// Bits of the channel that a point's flips come from, each at most once; 0 for other faults, and
/// where a trial sees some images only, so that a bit tried once is not known. The points of a
/// layer's channels ("channel:layer1.0.conv1:12") are all there, in order.
std::uint64_t bits_of_channel(const ResultInfo& info, std::uint32_t point) {
  const PointInfo& own = info.points.at(point);
  if (own.estimand != "T1 of a channel" || !info.image_blocks.empty()) return 0;
  const std::string& name = own.fault_model;
  const std::size_t colon = name.rfind(':');
  std::uint32_t channel = 0;
  std::from_chars(name.data() + colon + 1, name.data() + name.size(), channel);
  if (channel > point) return 0;
  const std::string layer = name.substr(0, colon + 1);
  const auto first = info.points.begin() + (point - channel);
  const auto end = std::partition_point(first, info.points.end(), [&](const PointInfo& other) {
    return other.fault_model.rfind(layer, 0) == 0;
  });
  if (end == first) return 0;
  for (const TensorInfo& tensor : info.models.at(0).tensors)
    if ("channel:" + tensor.name == name.substr(0, colon) + ".weight")
      return tensor.originals / static_cast<std::uint64_t>(end - first) * tensor.word_bits;
  return 0;
}

/// Images of a trial, where all of them are in every trial and each has faults of its own; else 0.
std::int64_t images_on_their_own(const ResultInfo& info, std::uint32_t point) {
  const bool own = info.points[point].lifetime == "image" && info.image_blocks.empty();
  return own ? info.models.front().images : 0;
}

/// The range of a - b, both by block.
std::pair<double, double> extremes(const std::vector<double>& a, const std::vector<double>& b) {
  double least = INFINITY, most = -INFINITY;
  for (std::size_t i = 0; i < a.size(); ++i) {
    least = std::min(least, a[i] - b[i]);
    most = std::max(most, a[i] - b[i]);
  }
  return {least, most};
}

/// Estimates of shares that together make 1: what drawn strata put below 0 is 0, and the others
/// give it up in proportion. An interval holds its estimate.
void make_one(std::vector<Interval>& all) {
  double sum = 0;
  for (const std::size_t q : {kMasked, kNonCritical, kCritical, kDue})
    sum += all[q].estimate = std::max(0.0, all[q].estimate);
  for (const std::size_t q : {kMasked, kNonCritical, kCritical, kDue}) all[q].estimate /= sum;
  all[kFailing].estimate = all[kCritical].estimate + all[kDue].estimate;
  for (Interval& interval : all) {
    interval.lower = std::min(interval.lower, interval.estimate);
    interval.upper = std::max(interval.upper, interval.estimate);
  }
}

}  // namespace

double supposed_deviation(bool t1) {
  return t1 ? 0.05 : 0.3;
}

PointEstimates::PointEstimates(const ResultInfo& info, std::uint32_t point)
    : PointEstimates(info, point, plan_of(info, point)) {
  if (!word_of(plan_).division) return;
  PlanInfo simple = plan_;
  simple.sampling = PlanInfo().sampling;
  for (std::size_t h = 0; h < models_.front().weights.size(); ++h)
    strata_.push_back(PointEstimates(info, point, simple));
}

PointEstimates::PointEstimates(const ResultInfo& info, std::uint32_t point, PlanInfo plan)
    : point_(point),
      plan_(std::move(plan)),
      t1_(info.points.at(point).estimand.rfind("T1", 0) == 0),
      listed_(info.points.at(point).estimand == kListed),
      paired_(listed_ || info.points.at(point).fault_model == "binomial"),
      sequential_(word_of(plan_).sampling == Sampling::kSequential),
      coded_(counts_words_read_wrongly(info, point)),
      counted_(images_on_their_own(info, point)),
      precision_{plan_.half_width, info.confidence, plan_.guaranteed != 0},
      population_(bits_of_channel(info, point)),
      bounded_(is_bounded(info, point)) {
  const bool divided = word_of(plan_).division.has_value();
  SampledStrata strata;
  if (!divided && !is_simple(plan_)) strata = sampled_strata(info, point);
  known_ = strata.known;
  for (std::size_t m = 0; m < info.models.size(); ++m)
    models_.push_back(
        model_of(info, m, divided ? stratum_weights(info, point, m) : strata.weights));
  for (std::size_t m = 0; m < models_.size(); ++m) models_[m].bound = bound_of(info, point, m);
}

PointEstimates::Model PointEstimates::model_of(const ResultInfo& info, std::size_t number,
                                               std::vector<double> weights) const {
  const ModelInfo& model = info.models[number];
  const std::vector<double> own = fault_free_by_block(info, model),
                            first = fault_free_by_block(info, info.models.front());
  // Correct images are a share in [0, 1], from which that without faults is taken.
  const auto [least, most] = extremes(own, std::vector<double>(own.size(), 0));
  const auto [least_over, most_over] = extremes(own, first);
  const Range gains{-most, 1 - least};
  const double fault_free = static_cast<double>(model.correct) / static_cast<double>(model.images);
  EstimateOptions of_differences = options(weights, false, {-1 - most_over, 1 - least_over});
  // An image counts -1, 0 or 1 here.
  if (counted_ > 0 && of_differences.estimate == Estimate::kCount)
    of_differences.estimate = Estimate::kMean;
  const Estimator difference(of_differences);
  Model result{model.name, fault_free, {}, own, gains, {}, difference, {}, {}, 0};
  for (const Quantity& quantity : kQuantities)
    result.estimators.emplace_back(
        quantity.right
            ? options(weights, false, gains)
            : options(weights, true, {0, 1}, sum_of(quantity.outcomes, kFaultFreeOutcomes)));
  result.weights = std::move(weights);
  return result;
}

EstimateOptions PointEstimates::options(const std::vector<double>& weights, bool share, Range range,
                                        double known_value) const {
  EstimateOptions options;
  options.confidence = precision_.confidence;
  options.low = range.low;
  options.high = range.high;
  options.weights = weights;
  options.known_weight = known_;
  options.known_value = known_value;
  options.population = population_;
  options.images_per_trial = counted_;
  switch (word_of(plan_).sampling) {
    case Sampling::kSimple:
    case Sampling::kEqual:  // of the strata
      options.estimate = counted_ > 0   ? Estimate::kCount
                         : share && t1_ ? Estimate::kShare
                                        : Estimate::kMean;
      break;
    case Sampling::kStratified:
      options.estimate = share && t1_ && precision_.guaranteed ? Estimate::kMover
                         : t1_                                 ? Estimate::kStratified
                         : coded_                              ? Estimate::kJoined
                                                               : Estimate::kGuarded;
      break;
    case Sampling::kAllocated:
      options.estimate = share && t1_ ? Estimate::kMover : Estimate::kStratified;
      break;
    case Sampling::kSequential:
      options.estimate = precision_.guaranteed ? Estimate::kBernstein : Estimate::kAsymptotic;
      break;
  }
  if (precision_.stops())
    options.tuned_for = static_cast<double>(
        std::max(kLeastTrials, trials_for(precision_.half_width / (1 - known_),
                                          supposed_deviation(t1_), precision_.confidence)));
  return options;
}

double PointEstimates::fault_free(const TrialRow& row) const {
  return models_.at(row.model).fault_free_of_block.at(
      static_cast<std::size_t>(std::max(row.block, 0)));
}

/// Correct images of the trial more than without faults on the same images, as a share: the
/// fault-free count takes out what only the choice of the block does.
double PointEstimates::gain(const TrialRow& row) const {
  return share(row, row.correct) - fault_free(row);
}

void PointEstimates::add(const std::vector<TrialRow>& trial) {
  if (trial.at(0).stage == 0) ++used_;
  if (!strata_.empty())
    return strata_.at(static_cast<std::size_t>(trial.front().stratum)).add(trial);
  if (sequential_) add_centres(trial);
  const double first_gain = gain(trial.front());
  for (const TrialRow& row : trial) add(row, gain(row) - first_gain);
}

/// Whether the model has nothing of the stratum: its trials tell nothing of it.
bool PointEstimates::lacks(std::size_t model, std::size_t stratum) const {
  return !(models_.at(model).weights.at(stratum) > 0);
}

void PointEstimates::add(const TrialRow& row, double difference) {
  const TrialDraw draw{row.stage, row.stratum, row.probability};
  Model& model = models_.at(row.model);
  for (std::size_t q = 0; q < kQuantities.size(); ++q) {
    const Quantity& quantity = kQuantities[q];
    if (quantity.right)
      model.estimators[q].add(draw, share(row, row.*quantity.right) - fault_free(row));
    else
      model.estimators[q].add(draw, share(row, sum_of(quantity.outcomes, counts(row))),
                              sum_of(quantity.outcomes, model.centres.now()));
  }
  if (models_.size() > 1) model.difference.add(draw, difference);
  if (row.stage != 0) return;
  if (models_.size() > 1) model.gain.add(gain(row));
  model.failing_trials += any_failing(row) ? 1 : 0;
  if (!sequential_) return;
  OutcomeShares shares = counts(row);
  for (double& outcome : shares) outcome = share(row, outcome);
  model.centres.add(model.weights.at(static_cast<std::size_t>(row.stratum)) / row.probability,
                    shares);
}

/// Notes the centres of a round with its first trial.
void PointEstimates::add_centres(const std::vector<TrialRow>& trial) {
  const std::uint32_t round = models_.at(0).centres.round();
  if (!centres_.empty() && centres_.back().round == round) return;
  for (const TrialRow& row : trial) {
    const OutcomeShares& c = models_.at(row.model).centres.now();
    centres_.push_back(
        {point_, round, static_cast<std::int32_t>(row.model), c[0], c[1], c[2], c[3]});
  }
}

std::uint64_t PointEstimates::used() const {
  return bounded_ ? 0 : used_;
}

std::vector<double> PointEstimates::observed(const std::vector<TrialRow>& trial) const {
  std::vector<double> values;
  for (const TrialRow& row : trial)
    values.push_back(t1_ ? share(row, double(row.sdc_critical) + row.due) : gain(row));
  return values;
}

/// Mean of what was observed; of a divided point joined from its strata.
Interval PointEstimates::observed_mean(std::size_t model, std::size_t quantity) const {
  const Model& own = models_.at(model);
  if (strata_.empty()) return own.estimators[quantity].interval();
  const Range range = kQuantities[quantity].right ? own.gains : Range{0, 1};
  std::vector<Interval> parts;
  for (const PointEstimates& stratum : strata_)
    parts.push_back(stratum.observed_mean(model, quantity));
  return mover_mean(own.weights, parts, range.low, range.high);
}

/// The mean over trials is no further from the fault-free value than the share of trials that read
/// any word wrongly.
Interval PointEstimates::bounded(std::size_t model, std::size_t quantity) const {
  const Model& own = models_[model];
  const Quantity& of = kQuantities[quantity];
  const double value = of.right ? own.fault_free : sum_of(of.outcomes, kFaultFreeOutcomes);
  return {value,
          std::max(0.0, value - *own.bound),
          std::min(1.0, value + *own.bound),
          precision_.confidence,
          "bound: P(any word read wrongly)",
          0};
}

Interval PointEstimates::interval_of(std::size_t model, std::size_t quantity) const {
  if (models_.at(model).bound) return bounded(model, quantity);
  const Interval interval = observed_mean(model, quantity);
  return kQuantities[quantity].right ? shifted(interval, models_.at(model).fault_free, 0, 1)
                                     : interval;
}

std::vector<Interval> PointEstimates::intervals_of(std::size_t model) const {
  std::vector<Interval> all;
  for (std::size_t q = 0; q < kQuantities.size(); ++q) all.push_back(interval_of(model, q));
  if (sequential_ && !models_.at(model).bound) make_one(all);
  return all;
}

Interval PointEstimates::difference_of(std::size_t number) const {
  const Model &model = models_.at(number), &first = models_.front();
  if (!model.bound && !first.bound)
    return drawn_difference(number, model.fault_free - first.fault_free);
  // A bound is certain: it is added to the interval of the other as it is.
  const Interval a = interval_of(number, kAccuracy), b = interval_of(0, kAccuracy);
  const std::string method = model.bound && first.bound ? a.method
                             : model.bound              ? b.method + " and bound"
                                                        : a.method + " and bound";
  return {a.estimate - b.estimate,
          a.lower - b.upper,
          a.upper - b.lower,
          precision_.confidence,
          method,
          a.n + b.n};
}

/// Single faults hit each network of a divided point independently, in strata of its own shares.
Interval PointEstimates::drawn_difference(std::size_t number, double fault_free) const {
  const Model &model = models_.at(number), &first = models_.front();
  if (!strata_.empty())
    return shifted(mover_difference(observed_mean(number, kAccuracy), observed_mean(0, kAccuracy),
                                    "two-sample MOVER"),
                   fault_free, -1, 1);
  if (!paired_ && counted_ > 0 && is_simple(plan_))
    return shifted(mover_difference(observed_mean(number, kAccuracy), observed_mean(0, kAccuracy),
                                    "two-sample MOVER"),
                   fault_free, -1, 1);
  if (!paired_ && is_simple(plan_))
    return shifted(
        difference_interval({model.gain, model.gains.low, model.gains.high},
                            {first.gain, first.gains.low, first.gains.high}, precision_.confidence),
        fault_free, -1, 1);
  Interval interval = shifted(model.difference.interval(), fault_free, -1, 1);
  if (paired_) interval.method = "paired " + interval.method;
  return interval;
}

std::vector<EstimateRow> PointEstimates::look() const {
  std::vector<EstimateRow> rows;
  if (used_ == 0 && !bounded_) return rows;
  for (std::size_t m = 0; m < models_.size(); ++m) {
    const std::vector<Interval> all = intervals_of(m);
    for (std::size_t q = 0; q < kQuantities.size(); ++q)
      rows.push_back(to_row(all[q], point_, m, kQuantities[q].name));
    if (m == 0) continue;
    rows.push_back(to_row(difference_of(m), point_, m, "accuracy_difference"));
    rows.back().against = 0;
  }
  for (std::size_t h = 0; h < strata_.size(); ++h)
    for (EstimateRow& row : look_at_stratum(h)) rows.push_back(std::move(row));
  for (EstimateRow& row : rows) {
    if (!listed_) break;
    row.lower = row.upper = std::numeric_limits<double>::quiet_NaN();
    row.method = kListed;
  }
  return rows;
}

/// The rows of models that have something of it.
std::vector<EstimateRow> PointEstimates::look_at_stratum(std::size_t stratum) const {
  std::vector<EstimateRow> rows;
  for (EstimateRow& row : strata_[stratum].look()) {
    if (lacks(static_cast<std::size_t>(row.model), stratum)) continue;
    if (row.against >= 0 && lacks(static_cast<std::size_t>(row.against), stratum)) continue;
    row.stratum = static_cast<std::int32_t>(stratum);
    rows.push_back(std::move(row));
  }
  return rows;
}

std::size_t PointEstimates::stop_quantity() const {
  return t1_ ? kFailing : kAccuracy;
}

bool PointEstimates::reached() const {
  const bool exact = word_of(plan_).sampling == Sampling::kAllocated;
  if (!exact && used_ < kLeastTrials) return false;
  for (std::size_t m = 0; m < models_.size(); ++m) {
    if (!exact && t1_ && models_[m].failing_trials < kLeastFailing) return false;
    if (interval_of(m, stop_quantity()).half_width() > precision_.half_width) return false;
  }
  return true;
}

double PointEstimates::width() const {
  double widest = 0;
  for (std::size_t m = 0; m < models_.size(); ++m)
    widest = std::max(widest, interval_of(m, stop_quantity()).half_width());
  return widest / precision_.half_width;
}

std::string PointEstimates::headline() const {
  if (used_ == 0 && !bounded_) return "pilot";
  std::string text;
  for (std::size_t m = 0; m < models_.size(); ++m) {
    const Interval i =
        sequential_ ? intervals_of(m)[stop_quantity()] : interval_of(m, stop_quantity());
    text += text.empty() ? (t1_ ? "failing " : "accuracy ") : " → ";
    if (models_.size() > 1) text += models_[m].name + " ";
    text += fmt::format("{:.2f} %", 100 * i.estimate);
    if (!listed_) text += fmt::format(" [{:.2f}, {:.2f}]", 100 * i.lower, 100 * i.upper);
  }
  return text;
}

}  // namespace sentinel
