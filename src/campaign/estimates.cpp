#include "campaign/estimates.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "sentinel/core/error.hpp"

namespace sentinel {
namespace {

constexpr std::uint64_t kLeastTrials = 200, kLeastFailing = 20;  // before a sequential plan stops

using Count = double (*)(const TrialRow&);
struct Quantity {
  const char* name;
  Count count;     // images
  bool of_labels;  // estimated as the difference to the fault-free network on the same images
};
constexpr std::array<Quantity, 7> kQuantities = {
    {{"accuracy", [](const TrialRow& r) { return double(r.correct); }, true},
     {"sdc_critical", [](const TrialRow& r) { return double(r.sdc_critical); }, false},
     {"due", [](const TrialRow& r) { return double(r.due); }, false},
     {"failing", [](const TrialRow& r) { return double(r.sdc_critical) + r.due; }, false},
     {"sdc_noncritical", [](const TrialRow& r) { return double(r.sdc_noncritical); }, false},
     {"masked", [](const TrialRow& r) { return double(r.masked); }, false},
     {"accuracy_argmax", [](const TrialRow& r) { return double(r.correct_argmax); }, true}}};
constexpr std::size_t kAccuracy = 0, kFailing = 3;

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

PlanInfo plan_of(const ResultInfo& info, std::uint32_t point) {
  return point < info.plans.size() ? info.plans[point] : PlanInfo();
}

Interval shifted(Interval interval, double by, double low, double high) {
  interval.estimate += by;
  interval.lower = std::max(low, interval.lower + by);
  interval.upper = std::min(high, interval.upper + by);
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

}  // namespace

double supposed_deviation(bool t1) {
  return t1 ? 0.05 : 0.3;
}

PointEstimates::PointEstimates(const ResultInfo& info, std::uint32_t point)
    : point_(point),
      plan_(plan_of(info, point)),
      t1_(info.points.at(point).estimand.rfind("T1", 0) == 0),
      paired_(info.points.at(point).fault_model == "binomial"),
      confidence_(info.confidence) {
  for (const StratumInfo& stratum : info.strata)
    if (stratum.point == point) weights_.push_back(stratum.weight);
  const bool blocks = !info.image_blocks.empty();
  for (const ModelInfo& model : info.models) {
    const double whole = static_cast<double>(model.correct) / static_cast<double>(model.images);
    // Within a block all images may be right, or wrong, without faults.
    const double low = blocks ? -1 : -whole, high = blocks ? 1 : 1 - whole;
    Model own{whole, fault_free_by_block(info, model), {}, Estimator(options(false, -2, 2)), {}, 0};
    for (const Quantity& quantity : kQuantities)
      own.estimators.emplace_back(quantity.of_labels ? options(false, low, high)
                                                     : options(true, 0, 1));
    models_.push_back(std::move(own));
  }
}

EstimateOptions PointEstimates::options(bool share, double low, double high) const {
  EstimateOptions options;
  options.confidence = confidence_;
  options.low = low;
  options.high = high;
  options.weights = weights_;
  switch (parse_sampling(plan_.sampling)) {
    case Sampling::kSimple:
      options.estimate = share && t1_ ? Estimate::kShare : Estimate::kMean;
      break;
    case Sampling::kStratified:
      options.estimate =
          share && t1_ && plan_.guaranteed ? Estimate::kMover : Estimate::kStratified;
      break;
    case Sampling::kAllocated:
      options.estimate = share && t1_ ? Estimate::kMover : Estimate::kStratified;
      break;
    case Sampling::kSequential:
      options.estimate = plan_.guaranteed ? Estimate::kBernstein : Estimate::kAsymptotic;
      break;
  }
  if (plan_.half_width > 0)
    options.tuned_for = static_cast<double>(
        std::max(kLeastTrials, trials_for(plan_.half_width, supposed_deviation(t1_), confidence_)));
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
  const double first_gain = gain(trial.at(0));
  for (const TrialRow& row : trial) {
    const TrialDraw draw{row.stage, row.stratum, row.probability};
    Model& model = models_.at(row.model);
    const double own = gain(row);
    for (std::size_t q = 0; q < kQuantities.size(); ++q)
      model.estimators[q].add(draw, share(row, kQuantities[q].count(row)) -
                                        (kQuantities[q].of_labels ? fault_free(row) : 0));
    model.difference.add(draw, own - first_gain);
    if (row.stage != 0) continue;
    model.gain.add(own);
    model.failing_trials += kQuantities[kFailing].count(row) > 0 ? 1 : 0;
  }
}

std::uint64_t PointEstimates::used() const {
  return models_.at(0).estimators[kAccuracy].trials();
}

std::vector<double> PointEstimates::observed(const std::vector<TrialRow>& trial) const {
  std::vector<double> values;
  for (const TrialRow& row : trial)
    values.push_back(t1_ ? share(row, kQuantities[kFailing].count(row)) : gain(row));
  return values;
}

Interval PointEstimates::interval_of(const Model& model, std::size_t quantity) const {
  const Interval interval = model.estimators[quantity].interval();
  return kQuantities[quantity].of_labels ? shifted(interval, model.fault_free, 0, 1) : interval;
}

Interval PointEstimates::difference_of(const Model& model) const {
  const Model& first = models_.front();
  const double fault_free = model.fault_free - first.fault_free;
  if (!paired_ && plan_.sampling == "simple")
    return shifted(welch_interval(model.gain, first.gain, confidence_, -1, 1), fault_free, -1, 1);
  Interval interval = shifted(model.difference.interval(), fault_free, -1, 1);
  if (paired_) interval.method = "paired " + interval.method;
  return interval;
}

std::vector<EstimateRow> PointEstimates::look() const {
  std::vector<EstimateRow> rows;
  if (used() == 0) return rows;
  for (std::size_t m = 0; m < models_.size(); ++m) {
    for (std::size_t q = 0; q < kQuantities.size(); ++q)
      rows.push_back(to_row(interval_of(models_[m], q), point_, m, kQuantities[q].name));
    if (m == 0) continue;
    rows.push_back(to_row(difference_of(models_[m]), point_, m, "accuracy_difference"));
    rows.back().against = 0;
  }
  return rows;
}

std::size_t PointEstimates::stop_quantity() const {
  return t1_ ? kFailing : kAccuracy;
}

bool PointEstimates::reached() const {
  const bool exact = plan_.sampling == sampling_name(Sampling::kAllocated);
  if (!exact && used() < kLeastTrials) return false;
  return std::all_of(models_.begin(), models_.end(), [&](const Model& model) {
    return (exact || !t1_ || model.failing_trials >= kLeastFailing) &&
           interval_of(model, stop_quantity()).half_width() <= plan_.half_width;
  });
}

double PointEstimates::width() const {
  double widest = 0;
  for (const Model& model : models_)
    widest = std::max(widest, interval_of(model, stop_quantity()).half_width());
  return widest / plan_.half_width;
}

std::string PointEstimates::headline() const {
  if (used() == 0) return "pilot";
  std::string text;
  for (const Model& model : models_) {
    const Interval i = interval_of(model, stop_quantity());
    text += text.empty() ? (t1_ ? "failing " : "accuracy ") : " → ";
    text += fmt::format("{:.2f} % ± {:.2f}", 100 * i.estimate, 100 * i.half_width());
  }
  return text;
}

}  // namespace sentinel
