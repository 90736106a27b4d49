#include "campaign/division.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "campaign/trial_runner.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/stats/interval.hpp"

namespace sentinel {
namespace {

constexpr std::array<SamplingWord, 10> kWords = {
    {{"simple", Sampling::kSimple, {}},
     {"stratified", Sampling::kStratified, {}},
     {"sequential", Sampling::kSequential, {}},
     {"allocated", Sampling::kAllocated, {}},
     {"per-layer", Sampling::kEqual, DivideBy::kLayer},
     {"per-class", Sampling::kEqual, DivideBy::kClass},
     {"per-bit", Sampling::kEqual, DivideBy::kBit},
     {"per-layer:allocated", Sampling::kStratified, DivideBy::kLayer},
     {"per-class:allocated", Sampling::kStratified, DivideBy::kClass},
     {"per-bit:allocated", Sampling::kStratified, DivideBy::kBit}}};

/// The option that chooses the same parts where trials have other faults than one.
const char* selecting_option(DivideBy by) {
  switch (by) {
    case DivideBy::kLayer:
      return "--layers";
    case DivideBy::kClass:
      return "--fault-target";
    case DivideBy::kBit:
      return "--bits";
  }
  throw Bug("unknown division");
}

}  // namespace

const SamplingWord* find_sampling(const std::string& word) {
  const auto found = std::find_if(kWords.begin(), kWords.end(),
                                  [&](const SamplingWord& own) { return own.word == word; });
  return found == kWords.end() ? nullptr : &*found;
}

std::string sampling_word(const CampaignPoint& point) {
  for (const SamplingWord& own : kWords)
    if (own.sampling == point.sampling && own.division == point.division) return own.word;
  throw Bug("no word says this sampling");
}

void validate_sampling_word(const Job& job) {
  const SamplingWord* own = find_sampling(job.sampling);
  if (!own || own->sampling == Sampling::kSequential || own->sampling == Sampling::kAllocated)
    throw UserError("--sampling " + job.sampling +
                    " is unknown; choose simple, stratified, per-layer, per-class or per-bit (the "
                    "last three also with :allocated behind)");
  if (!own->division || !job.faults.list.empty()) return;
  const char* option = selecting_option(*own->division);
  if (job.fault_count != "exact:1")
    throw UserError(fmt::format(
        "--sampling {} divides the population of single faults, so it needs --single-bit; for "
        "other numbers of faults choose a part by {}, one campaign each",
        job.sampling, option));
  if (job.half_width > 0)
    throw UserError(fmt::format(
        "--half-width stops by one interval, and --sampling {} has one of each stratum; give "
        "--repeat, about {} trials for each stratum keep every interval within +- {:g}",
        job.sampling, trials_for(job.half_width, 0.5, job.confidence), job.half_width));
  if (*own->division == DivideBy::kBit && fault_model_of(job.faults).of_words())
    throw UserError("--sampling " + job.sampling + ": with --fault-model " + job.faults.model +
                    " a fault hits a whole word; choose per-layer or per-class");
}

void check_enough_trials(const CampaignPoint& point, std::size_t strata) {
  const std::uint64_t trials = point.whole.value_or(point.trials);
  if (point.sampling != Sampling::kEqual || (point.whole && trials == 0)) return;
  const std::uint64_t least = kLeastOfEach * strata;
  if (trials < least)
    throw UserError(fmt::format(
        "--sampling {}: {} strata need at least {} trials, {} of each, not {}; give a larger "
        "--repeat",
        sampling_word(point), strata, least, kLeastOfEach, trials));
}

std::vector<double> mean_weights(const ResultInfo& info, std::uint32_t point) {
  std::vector<double> mean;
  for (std::size_t m = 0; m < info.models.size(); ++m) {
    const std::vector<double> own = stratum_weights(info, point, m);
    mean.resize(own.size());
    for (std::size_t h = 0; h < own.size(); ++h)
      mean[h] += own[h] / static_cast<double>(info.models.size());
  }
  return mean;
}

}  // namespace sentinel
