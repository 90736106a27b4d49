#pragma once
#include <optional>
#include <string>

#include "sentinel/campaign/job.hpp"
#include "sentinel/fault/division.hpp"
#include "sentinel/stats/design.hpp"
#include "sentinel/store/schema.hpp"

namespace sentinel {

struct CampaignPoint;

/// How --sampling, or the file, says that trials are chosen: "stratified", "per-layer" (equal),
/// "per-layer:allocated" (stratified).
struct SamplingWord {
  const char* word;
  Sampling sampling;
  std::optional<DivideBy> division;
};
/// Null where the word is unknown.
const SamplingWord* find_sampling(const std::string& word);
/// Bug where there is none.
std::string sampling_word(const CampaignPoint& point);

/// UserError where --sampling is unknown, or does not go with the job's other options.
void validate_sampling_word(const Job& job);

/// Trials that each stratum of an equal plan must have: fewer have no interval.
constexpr std::uint64_t kLeastOfEach = 2;

/// UserError where a divided point has too few trials for its strata; of a range of trials, where
/// the whole campaign is known to have too few.
void check_enough_trials(const CampaignPoint& point, std::size_t strata);

/// Weights of the strata that trials are allocated by: the mean over the networks.
std::vector<double> mean_weights(const ResultInfo& info, std::uint32_t point);

}  // namespace sentinel
