#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "sentinel/campaign/job.hpp"
#include "sentinel/core/sampling_words.hpp"
#include "sentinel/fault/fault_list.hpp"
#include "sentinel/fault/sampler.hpp"
#include "sentinel/fault/trial_cost.hpp"
#include "sentinel/io/dataset.hpp"
#include "sentinel/networks/network.hpp"
#include "sentinel/store/result_store.hpp"

namespace sentinel {

/// One fault model of a campaign, which of its trials are wanted, and how they are chosen.
struct CampaignPoint {
  Sampler sampler;
  std::uint64_t trials = 0;  // ids below this; may be 0: a point that keeps its number although
                             // nobody asks for it. With a half-width: at most so many
  std::uint64_t first = 0;   // ids from this on
  Sampling sampling = Sampling::kSimple;
  Precision precision = {};
  FaultModel faults = {};
  /// By model, P(any word read wrongly) where that alone answers for the model. Where it does for
  /// all, no trial is needed.
  std::vector<std::optional<double>> bounds = {};
  /// Equal, stratified: strata are these parts of the memory, with estimates of their own.
  std::optional<DivideBy> division = {};
  /// Trials of the whole campaign, where this is a range of them; 0 where that is not said.
  std::optional<std::uint64_t> whole = {};
};

/// The widest of the bounds, where every model has one.
std::optional<double> bound_of_all(const CampaignPoint& point);

/// Expected number of faults in each tensor of the space per trial on so many images.
std::vector<double> expected_of_trial(const CampaignPoint& point, const FaultSpace& space,
                                      std::int64_t images);

/// The same, of all tensors together.
double faults_of_trial(const CampaignPoint& point, const FaultSpace& space, std::int64_t images);

/// By model.
std::vector<TrialCost> trial_costs(const std::vector<NamedModel>& models,
                                   const Selection& selection);

/// The points of a job, one per BER (or the one of exact:K, or of `list`, which lists its faults).
std::vector<CampaignPoint> points_of(const Job& job, std::shared_ptr<const FaultList> list);

/// What a campaign runs, built alike on every rank. `inject`, `campaign` and channel-FI are each a
/// way to make one. Models and images must outlive it.
struct TrialPlan {
  std::string what;  // for the progress line
  const std::vector<NamedModel>& models;
  const Dataset& images;
  std::vector<CampaignPoint> points;
  ChannelScores scores;  // stored beside the trials
  std::string remedy = restart_advice();
  bool warned = false;  // that the first model guesses, where it does
};

}  // namespace sentinel
