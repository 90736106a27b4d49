#pragma once
#include <optional>
#include <string>
#include <vector>

#include "sentinel/stats/centres.hpp"
#include "sentinel/stats/design.hpp"
#include "sentinel/store/schema.hpp"

namespace sentinel {

/// The estimates of one point of a campaign, from its trials in the order of their ids.
class PointEstimates {
 public:
  /// Of what the file says before the first trial: plan, strata, fault-free predictions.
  PointEstimates(const ResultInfo& info, std::uint32_t point);

  /// All rows of the next trial, in model order.
  void add(const std::vector<TrialRow>& trial);
  /// Trials so far that count in estimates (a pilot's do not; none where bounds answer for every
  /// model).
  std::uint64_t used() const;
  /// One row per (model, quantity), as of now. The four outcome shares of a model sum to 1. Of a
  /// divided point, behind them the same of each stratum, as of a simple plan. A model that a bound
  /// answers for has the fault-free values +- P(any word read wrongly), whatever its trials show.
  std::vector<EstimateRow> look() const;
  /// What a plan is made and stopped by, one value per model: the share of failing images (T1), or
  /// correct images more than without faults, as a share.
  std::vector<double> observed(const std::vector<TrialRow>& trial) const;
  /// The centres of a sequential plan's rounds so far.
  const std::vector<CentreInfo>& centres() const { return centres_; }
  /// Whether its interval is as narrow as the plan wants for every model: of a sequential plan,
  /// whose interval needs many, from 200 trials and, for T1, 20 of them with a failing image on.
  bool reached() const;
  /// How many times too wide it is now, of the widest model; for an idea of what is left.
  double width() const;
  /// "accuracy 58.80 % [57.92, 59.61] → 88.21 % [88.09, 88.30]", for the progress line.
  std::string headline() const;

 private:
  PointEstimates(const ResultInfo& info, std::uint32_t point, PlanInfo plan);
  /// Range of observations that a difference to the fault-free network makes.
  struct Range {
    double low, high;
  };
  /// What is estimated of a model.
  struct Model {
    std::string name;
    double fault_free = 0;                    // accuracy on all images
    std::optional<double> bound;              // P(any word read wrongly), where it answers
    std::vector<double> fault_free_of_block;  // or of all images, where a trial sees them all
    Range gains;                              // of correct images over the fault-free ones
    std::vector<Estimator> estimators;        // by kQuantities
    Estimator difference;                     // accuracy over the first model's
    Sample gain;                              // of the accuracy; for unpaired differences
    Centres centres;                          // sequential
    std::uint64_t failing_trials = 0;
    std::vector<double> weights = {};  // of the strata that trials come from, in its population
  };
  Model model_of(const ResultInfo& info, std::size_t number, std::vector<double> weights) const;
  double fault_free(const TrialRow& row) const;  // accuracy on the trial's images
  double gain(const TrialRow& row) const;
  EstimateOptions options(const std::vector<double>& weights, bool share, Range range,
                          double known_value = 0) const;
  bool lacks(std::size_t model, std::size_t stratum) const;
  void add(const TrialRow& row, double difference);
  void add_centres(const std::vector<TrialRow>& trial);
  Interval observed_mean(std::size_t model, std::size_t quantity) const;
  Interval interval_of(std::size_t model, std::size_t quantity) const;
  std::vector<Interval> intervals_of(std::size_t model) const;
  Interval bounded(std::size_t model, std::size_t quantity) const;
  Interval difference_of(std::size_t model) const;
  Interval drawn_difference(std::size_t model, double fault_free) const;
  std::vector<EstimateRow> look_at_stratum(std::size_t stratum) const;
  std::size_t stop_quantity() const;

  std::uint32_t point_;
  PlanInfo plan_;
  bool t1_, listed_, paired_, sequential_, coded_;
  std::int64_t counted_ = 0;  // images of a trial, where each has faults of its own; else 0
  Precision precision_;
  double known_ = 0;              // share of the population that reads as without faults
  std::uint64_t population_ = 0;  // of the faults, where they are drawn without replacement
  std::vector<Model> models_;
  std::vector<CentreInfo> centres_;
  std::uint64_t used_ = 0;
  bool bounded_;                        // every model
  std::vector<PointEstimates> strata_;  // of a divided point
};

/// Standard deviation of what is observed per trial of T1 (sequential plan) or T2, as supposed
/// before anything is known: confidence sequences are tuned by it.
double supposed_deviation(bool t1);

}  // namespace sentinel
