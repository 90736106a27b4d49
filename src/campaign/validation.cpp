#include "sentinel/campaign/validation.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "sentinel/core/error.hpp"
#include "sentinel/core/sampling_words.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/fault/sampler.hpp"
#include "sentinel/networks/pruning.hpp"
#include "sentinel/stats/interval.hpp"
#include "sentinel/transform/folding.hpp"
#include "sentinel/transform/train.hpp"

namespace sentinel {
namespace {

constexpr std::int64_t kMostAtOnce = 1 << 16;
constexpr std::uint64_t kMostTrials = 1'000'000'000'000;  // per point
constexpr double kLeastHalfWidth = 1e-6;
constexpr std::int64_t kMostEpochs = 1'000'000;

void require(bool holds, const std::string& message) {
  if (!holds) throw UserError(message);
}

/// The message begins with the name of the setting.
void require(bool holds, Setting setting, const std::string& message) {
  if (!holds) throw UserError(spelled(setting) + " " + message);
}

void validate_audit(const std::optional<double>& rate, EnginePath engine, Setting setting) {
  if (!rate) return;
  require(*rate >= 0 && *rate <= 1, setting,
          fmt::format("{} lies outside [0, 1]; give the share of trials to run again by the "
                      "reference path, such as 0.01 (0: none)",
                      *rate));
  require(*rate == 0 || engine == EnginePath::kFast, setting,
          fmt::format("{} needs the fast engine: with the reference engine there is nothing to "
                      "compare",
                      *rate));
}

/// Whether each trial is drawn whatever others showed.
bool has_fixed_trials(const Job& job) {
  return !job.precision.stops() && job.sampling != Sampling::kStratified;
}

void validate_range(const Job& job) {
  if (!job.range) return;
  const auto& [begin, end] = *job.range;
  require(begin < end, Setting::kTrialRange,
          fmt::format("{}:{} holds no trial; give first:end with first < end, such "
                      "as 0:1000 for trials 0 to 999",
                      begin, end));
  require(!job.trials || end <= *job.trials, Setting::kTrialRange,
          fmt::format("{}:{} reaches beyond {} {}", begin, end, spelled(Setting::kRepeat),
                      job.trials.value_or(0)));
  require(has_fixed_trials(job), Setting::kTrialRange,
          "needs trials that do not depend on each other; leave out " +
              spelled(Setting::kHalfWidth) + " and " + spelled(Setting::kSampling) + " " +
              (job.sampling == Sampling::kSimple ? "stratified"
                                                 : sampling_word(job.sampling, job.division)));
}

/// The setting that chooses the same parts where trials have other faults than one.
Setting selecting(DivideBy by) {
  switch (by) {
    case DivideBy::kLayer:
      return Setting::kLayers;
    case DivideBy::kClass:
      return Setting::kFaultTarget;
    case DivideBy::kBit:
      return Setting::kBits;
  }
  throw Bug("unknown division");
}

/// Whether parts of the memory with estimates of their own go with the job's other settings.
void validate_division(const Job& job) {
  if (!job.division || !job.faults.list.empty()) return;
  const std::string sampling = sampling_word(job.sampling, job.division);
  if (!job.fault_count.is_single())
    throw UserError(
        fmt::format("{} {} divides the population of single faults, so it needs {}; for other "
                    "numbers of faults choose a part by {}, one campaign each",
                    spelled(Setting::kSampling), sampling, spelled(Setting::kSingleBit),
                    spelled(selecting(*job.division))));
  if (job.precision.stops())
    throw UserError(
        fmt::format("{} stops by one interval, and {} {} has one of each stratum; give {}, about "
                    "{} trials for each stratum keep every interval within +- {:g}",
                    spelled(Setting::kHalfWidth), spelled(Setting::kSampling), sampling,
                    spelled(Setting::kRepeat),
                    trials_for(job.precision.half_width, 0.5, job.precision.confidence),
                    job.precision.half_width));
  if (*job.division == DivideBy::kClass && selects_outputs(selection_of(job.faults)))
    throw UserError(spelled(Setting::kSampling) + " " + sampling +
                    ": outputs of nodes are one class; choose per-layer or per-bit");
  if (*job.division == DivideBy::kBit && fault_model_of(job.faults).of_words())
    throw UserError(spelled(Setting::kSampling) + " " + sampling + ": with " +
                    spelled(Setting::kFaultModel) + " " + effect_name(job.faults.model) +
                    " a fault hits a whole word; choose per-layer or per-class");
}

/// Which trials, and when they are enough.
void validate_sampling(const Job& job) {
  require(!job.trials || *job.trials > 0, Setting::kRepeat, "0: at least one trial is needed");
  require(planned_trials(job) <= kMostTrials,
          fmt::format("{} trials per point are more than {}", planned_trials(job), kMostTrials));
  require(job.images_per_trial == -1 || job.images_per_trial > 0, Setting::kImagesPerTrial,
          "must be at least 1, or -1 for all");
  const double half_width = job.precision.half_width;
  require(half_width == 0 || (half_width >= kLeastHalfWidth && half_width < 0.5),
          Setting::kHalfWidth,
          fmt::format("{} lies outside [{}, 0.5); it is a share, such as 0.003 for 0.3 points "
                      "(0: a fixed number of trials)",
                      half_width, kLeastHalfWidth));
  validate_division(job);
  require(!job.precision.stops() || job.sampling == Sampling::kSimple, Setting::kHalfWidth,
          "draws strata trial by trial; leave out " + spelled(Setting::kSampling) + " stratified");
  require(
      !job.precision.guaranteed || job.precision.stops() ||
          (job.sampling == Sampling::kStratified && !job.division && job.fault_count.is_single()),
      Setting::kGuaranteed,
      "needs " + spelled(Setting::kHalfWidth) + ", or " + spelled(Setting::kSingleBit) + " " +
          spelled(Setting::kSampling) + " stratified");
  validate_range(job);
}

void validate_half_width(const ChannelFaultsJob& job) {
  if (!job.half_width) return;
  require(*job.half_width >= kLeastHalfWidth && *job.half_width < 0.5, Setting::kChannelHalfWidth,
          fmt::format("{} lies outside [{}, 0.5); it is a share, such as 0.01 for 1 point",
                      *job.half_width, kLeastHalfWidth));
  const ChannelSampling usual;
  const std::string no_part = "has no part in " + spelled(Setting::kChannelHalfWidth) +
                              ", which chooses the flips of each channel itself, for " +
                              spelled(Setting::kChannelConfidence) + "; leave one out";
  require(job.sampling.error == usual.error, Setting::kChannelError, no_part);
  require(job.sampling.t == usual.t, Setting::kChannelT, no_part);
  require(job.sampling.p == usual.p, Setting::kChannelP, no_part);
}

/// A list says all of the faults.
void validate_list(const Job& job) {
  const FaultsJob &faults = job.faults, usual;
  const Job plain;
  const std::pair<bool, std::string> others[] = {
      {faults.targets != usual.targets, spelled(Setting::kFaultTarget)},
      {!faults.layers.empty(), spelled(Setting::kLayers)},
      {!faults.channels.empty(), spelled(Setting::kChannels)},
      {!faults.bits.empty(), spelled(Setting::kBits)},
      {faults.model.effect != usual.model.effect, spelled(Setting::kFaultModel)},
      {!faults.model.of_bits(), spelled(Setting::kFaultShape)},
      {faults.lifetime.has_value(), spelled(Setting::kFaultLifetime)},
      {!faults.event_rate.empty(), spelled(Setting::kEventRate)},
      {!job.ber.empty(), spelled(Setting::kBer)},
      {job.fault_count != plain.fault_count,
       spelled(Setting::kFaultCount) + " and " + spelled(Setting::kSingleBit)},
      {job.trials.has_value(), spelled(Setting::kRepeat)},
      {job.precision.stops(), spelled(Setting::kHalfWidth)},
      {job.sampling != plain.sampling || job.division, spelled(Setting::kSampling)}};
  for (const auto& [given, setting] : others)
    require(!given, Setting::kFaults,
            faults.list + " says which faults each trial has; leave out " + setting);
}

/// Both spellings of a single fault: a job does not know which was given.
std::string in_words(const FaultCount& count) {
  const std::string exact = spelled(Setting::kFaultCount) + " " + fault_count_name(count);
  return count.is_single() ? spelled(Setting::kSingleBit) + " (" + exact + ")" : exact;
}

void validate_faults(const Job& job) {
  const FaultsJob& faults = job.faults;
  if (!faults.list.empty()) return validate_list(job);
  selection_of(faults);
  const bool exact = job.fault_count.is_exact();
  const bool bits = fault_model_of(faults).of_bits();
  require(bits || job.ber.empty(), Setting::kBer,
          "is the rate of single bits; with " + spelled(Setting::kFaultShape) + " " +
              shape_name(faults.model) + " give " + spelled(Setting::kEventRate) +
              ", the probability that an event starts at a bit");
  require(!bits || faults.event_rate.empty(), Setting::kEventRate,
          "is for " + spelled(Setting::kFaultShape) + " burst:L and mbu:p1,p2,p3; give " +
              spelled(Setting::kBer));
  const std::vector<double>& rates = rates_of(job);
  const Setting rate_setting = bits ? Setting::kBer : Setting::kEventRate;
  require(exact || !rates.empty(), rate_setting,
          std::string("is missing: the probability that ") +
              (bits ? "a bit flips" : "an event starts at a bit") + ", such as 1e-6");
  require(!exact || rates.empty(), rate_setting,
          "and " + in_words(job.fault_count) + " contradict each other; give one");
  for (const double rate : rates) sampler_of(job.fault_count, rate);
}

/// Options of one search that another would ignore.
void validate_own_options(const BoundSearch& search) {
  const BoundSearch usual;
  const bool by_trials = search.method == BoundMethod::kFtclip, trained = trains_bounds(search);
  const std::string needed = "needs " + spelled(Setting::kBoundSearch) + " ";
  require(by_trials || search.rates == usual.rates, Setting::kBoundRates, needed + "ftclip");
  require(by_trials || trained || search.seed == usual.seed, Setting::kBoundSeed,
          needed + "ftclip, fitact or proact");
  require(trained || !search.epochs, Setting::kBoundEpochs, needed + "fitact or proact");
  require(search.epochs.value_or(1) >= 1 && search.epochs.value_or(1) <= kMostEpochs,
          Setting::kBoundEpochs, fmt::format("must be from 1 to {}", kMostEpochs));
}

void validate_rates(const std::vector<double>& rates) {
  require(rates.size() >= 2, Setting::kBoundRates, "needs at least two rates");
  for (std::size_t i = 0; i < rates.size(); ++i) {
    require(rates[i] > 0 && rates[i] < 1, Setting::kBoundRates,
            fmt::format("{} lies outside (0, 1)", rates[i]));
    require(i == 0 || rates[i - 1] < rates[i], Setting::kBoundRates, "must be ascending");
  }
}

void validate_bound_search(const HardeningPlan& plan) {
  const BoundSearch& search = plan.search;
  const std::string name = bound_search_name(search);
  require(plan.restricted || plan.bounds == BoundsPer::kLayer, Setting::kBounds,
          "shapes bounds of activations, and " + spelled(Setting::kClipping) +
              " none sets none; leave one of them out");
  require(plan.restricted || search.method == BoundMethod::kMax, Setting::kBoundSearch,
          name + " finds bounds of activations, and " + spelled(Setting::kClipping) +
              " none sets none; leave one of them out");
  require(search.method != BoundMethod::kFtclip || plan.bounds == BoundsPer::kLayer,
          Setting::kBoundSearch,
          name + " searches one bound of each layer; leave out " + spelled(Setting::kBounds));
  require(search.method != BoundMethod::kProact || plan.bounds == BoundsPer::kLayer,
          Setting::kBoundSearch,
          name + " has one bound of each layer, and of the last one of each neuron; leave out " +
              spelled(Setting::kBounds));
  require(
      !trains_bounds(search) || plan.clipping == Clipping::kSmooth, Setting::kBoundSearch,
      name + " trains bounds by gradients; it needs " + spelled(Setting::kClipping) + " smooth");
  validate_own_options(search);
  validate_rates(search.rates);
}

}  // namespace

void validate(const ProtectionJob& job) {
  const double ratio = job.hardening.duplication.ratio;
  if (const auto& overhead = job.hardening.duplication.overhead) {
    require(overhead->share > 0 && overhead->share <= 1, Setting::kOverhead,
            fmt::format("{} lies outside (0, 1]; give what duplication may add, such as "
                        "0.05:parameters",
                        overhead->share));
    require(job.hardening.duplication.layout == RowLayout::kOwn, Setting::kOverhead,
            "chooses each convolution's own channels, and " + spelled(Setting::kSelection) +
                " group those of a group; leave one out");
  }
  require(
      ratio >= 0 && ratio < 1, Setting::kHardeningRatio,
      fmt::format("{} lies outside [0, 1); give the share of channels to duplicate, such as 0.1",
                  ratio));
  validate_bound_search(job.hardening);
  if (job.hardening.fold_batch_norm) require_foldable(job.hardening.store);
  require(job.calibration_images != 0, Setting::kCalibrationImages,
          "0 leaves nothing to calibrate on");
}

void validate(const PruningJob& job) {
  const auto check_ratio = [](Setting setting, const std::string& layer, double ratio) {
    require(ratio >= 0 && ratio < 1, setting,
            fmt::format("{}{} lies outside [0, 1); give the share of channels to remove, such as "
                        "0.1",
                        layer, ratio));
  };
  check_ratio(Setting::kPruningRatio, "", job.plan.ratio);
  for (const auto& [layer, ratio] : job.plan.ratios)
    check_ratio(Setting::kPruningRatios, layer + " = ", ratio);
  require(job.finetune_epochs >= 0 && job.finetune_epochs <= 1000000, Setting::kFinetuneEpochs,
          "must be from 0 to 1000000");
  TrainOptions options = job.finetune;
  options.epochs = std::max<std::int64_t>(1, job.finetune_epochs);
  check_training(options, Setting::kFinetuneEpochs, Setting::kFinetuneBatchSize);
}

void validate(const ChannelFaultsJob& job) {
  require(!job.output.empty(), "channel-FI keeps its trials in a file: give " +
                                   spelled(Setting::kOutput) + ", or " +
                                   spelled(Setting::kChannelTrials) + " FILE");
  const ChannelSampling& s = job.sampling;
  require(s.error > 0 && s.error < 1, Setting::kChannelError,
          fmt::format("{} lies outside (0, 1); 0.01 is usual", s.error));
  require(s.t > 0 && s.t < 100, Setting::kChannelT,
          fmt::format("{} lies outside (0, 100); 1.96 stands for 95 %", s.t));
  require(s.p > 0 && s.p < 1, Setting::kChannelP,
          fmt::format("{} lies outside (0, 1); 0.5 is the safe choice", s.p));
  require(s.cap > 0, Setting::kChannelCap, "0: at least one trial per channel is needed");
  validate_half_width(job);
  require(job.confidence > 0 && job.confidence < 1, Setting::kChannelConfidence,
          fmt::format("{} lies outside (0, 1); 0.95 is usual", job.confidence));
  require(job.images_per_trial == -1 || job.images_per_trial > 0, Setting::kChannelImagesPerTrial,
          fmt::format("{} must be at least 1, or -1 for all", job.images_per_trial));
  validate_audit(job.audit, job.engine, Setting::kChannelAudit);
}

void validate_device(const Job& job, at::Device device) {
  require(!job.trials_at_once || device.is_cuda(), Setting::kTrialsAtOnce,
          "is for a GPU, and this rank computes on the CPU; leave it out");
}

void validate(const Job& job) {
  require(!job.output.empty(), Setting::kOutput,
          "result.h5 is missing: where shall the result go?");
  validate_sampling(job);
  require(job.images != 0, Setting::kImages, "0: at least one image is needed");
  require(job.precision.confidence > 0 && job.precision.confidence < 1, Setting::kConfidence,
          fmt::format("{} lies outside (0, 1); 0.95 is usual", job.precision.confidence));
  require(job.block > 0, Setting::kBatchSize, "must be at least 1");
  require(!job.trials_at_once || (*job.trials_at_once > 0 && *job.trials_at_once <= kMostAtOnce),
          Setting::kTrialsAtOnce,
          fmt::format("{} is no number from 1 to {}", job.trials_at_once.value_or(0), kMostAtOnce));
  require(job.compute.threads > 0, Setting::kThreads, "must be at least 1");
  require(job.cache_budget_gib >= 0 && job.cache_budget_gib <= 1e6, Setting::kCacheBudget,
          "lies outside 0 … 1000000 GiB");
  require(job.publish_seconds >= 0, Setting::kPublish, "must not be negative");
  validate_audit(job.audit, job.engine, Setting::kAudit);
  validate_faults(job);
  if (job.pruning) validate(*job.pruning);
  if (!job.protect) return;
  validate(job.protection);
  require(!job.all_combinations || (job.pruning && protects(job.protection.hardening)),
          Setting::kAllCombinations,
          "needs " + spelled(Setting::kPruningRatio) + " and a protection, such as " +
              spelled(Setting::kHardeningRatio) + " 0.1");
  require(!job.all_combinations || job.hardened_output.empty(), Setting::kHardenedOutput,
          "names one file, but " + spelled(Setting::kAllCombinations) +
              " makes two protected networks; leave one of the options out");
  require(protects(job.protection.hardening) || job.pruning || !job.also.empty(),
          "nothing to compare with: " + spelled(Setting::kHardeningRatio) + " 0, " +
              spelled(Setting::kClipping) + " none and " + spelled(Setting::kWeightBounds) +
              " off protect nothing; choose a protection or name models with " +
              spelled(Setting::kAlso));
}

}  // namespace sentinel
