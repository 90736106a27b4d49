#include "sentinel/campaign/validation.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "sentinel/core/error.hpp"
#include "sentinel/core/sampling_words.hpp"
#include "sentinel/fault/sampler.hpp"
#include "sentinel/networks/pruning.hpp"
#include "sentinel/protect/folding.hpp"
#include "sentinel/protect/train.hpp"
#include "sentinel/stats/interval.hpp"

namespace sentinel {
namespace {

constexpr std::uint64_t kMostTrials = 1'000'000'000'000;  // per point
constexpr double kLeastHalfWidth = 1e-6;

void require(bool holds, const std::string& message) {
  if (!holds) throw UserError(message);
}

void require_engine(const std::string& engine, const std::string& option) {
  require(engine == "fast" || engine == "reference",
          option + " " + engine + " is unknown; choose fast or reference");
}

void validate_audit(const std::optional<double>& rate, const std::string& engine,
                    const std::string& option) {
  if (!rate) return;
  require(*rate >= 0 && *rate <= 1,
          fmt::format("{} {} lies outside [0, 1]; give the share of trials to run again by the "
                      "reference path, such as 0.01 (0: none)",
                      option, *rate));
  require(*rate == 0 || engine == "fast",
          fmt::format("{} {} needs the fast engine: with the reference engine there is nothing to "
                      "compare",
                      option, *rate));
}

/// Whether each trial is drawn whatever others showed.
bool has_fixed_trials(const Job& job) {
  const SamplingWord* sampling = find_sampling(job.sampling);
  return job.half_width == 0 && sampling && sampling->sampling != Sampling::kStratified;
}

void validate_range(const Job& job) {
  if (!job.range) return;
  const auto& [begin, end] = *job.range;
  require(begin < end, fmt::format("--trial-range {}:{} holds no trial; give first:end with first "
                                   "< end, such as 0:1000 for trials 0 to 999",
                                   begin, end));
  require(!job.trials || end <= *job.trials,
          fmt::format("--trial-range {}:{} reaches beyond --repeat {}", begin, end,
                      job.trials.value_or(0)));
  require(has_fixed_trials(job),
          "--trial-range needs trials that do not depend on each other; leave out --half-width and "
          "--sampling " +
              (job.sampling == "simple" ? "stratified" : job.sampling));
}

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

/// Which trials, and when they are enough.
void validate_sampling(const Job& job) {
  require(!job.trials || *job.trials > 0, "--repeat 0: at least one trial is needed");
  require(planned_trials(job) <= kMostTrials,
          fmt::format("{} trials per point are more than {}", planned_trials(job), kMostTrials));
  require(job.images_per_trial == -1 || job.images_per_trial > 0,
          "--images-per-trial must be at least 1, or -1 for all");
  require(
      job.half_width == 0 || (job.half_width >= kLeastHalfWidth && job.half_width < 0.5),
      fmt::format("--half-width {} lies outside [{}, 0.5); it is a share, such as 0.003 for 0.3 "
                  "points (0: a fixed number of trials)",
                  job.half_width, kLeastHalfWidth));
  validate_sampling_word(job);
  require(job.half_width == 0 || job.sampling == "simple",
          "--half-width draws strata trial by trial; leave out --sampling stratified");
  require(!job.guaranteed || job.half_width > 0 ||
              (job.sampling == "stratified" && job.fault_count == "exact:1"),
          "--guaranteed needs --half-width, or --single-bit --sampling stratified");
  validate_range(job);
}

void validate_half_width(const ChannelFaultsJob& job) {
  if (!job.half_width) return;
  require(*job.half_width >= kLeastHalfWidth && *job.half_width < 0.5,
          fmt::format("--channel-half-width {} lies outside [{}, 0.5); it is a share, such as 0.01 "
                      "for 1 point",
                      *job.half_width, kLeastHalfWidth));
  const ChannelSampling usual;
  const auto without_part = [](const std::string& option) {
    return option +
           " has no part in --channel-half-width, which chooses the flips of each channel "
           "itself, for --channel-confidence; leave one out";
  };
  require(job.sampling.error == usual.error, without_part("--channel-error"));
  require(job.sampling.t == usual.t, without_part("--channel-t"));
  require(job.sampling.p == usual.p, without_part("--channel-p"));
}

/// A list says all of the faults.
void validate_list(const Job& job) {
  const FaultsJob &faults = job.faults, usual;
  const Job plain;
  const std::pair<bool, const char*> others[] = {
      {faults.targets != usual.targets, "--fault-target"},
      {!faults.layers.empty(), "--layers"},
      {!faults.channels.empty(), "--channels"},
      {!faults.bits.empty(), "--bits"},
      {faults.model != usual.model, "--fault-model"},
      {faults.shape != usual.shape, "--fault-shape"},
      {!faults.lifetime.empty(), "--fault-lifetime"},
      {!faults.event_rate.empty(), "--event-rate"},
      {!job.ber.empty(), "--ber"},
      {job.fault_count != plain.fault_count, "--fault-count and --single-bit"},
      {job.trials.has_value(), "--repeat"},
      {job.half_width > 0, "--half-width"},
      {job.sampling != plain.sampling, "--sampling"}};
  for (const auto& [given, option] : others)
    require(!given,
            "--faults " + faults.list + " says which faults each trial has; leave out " + option);
}

void validate_faults(const Job& job) {
  const FaultsJob& faults = job.faults;
  require(faults.stored == "auto" || faults.stored == "yes" || faults.stored == "no",
          "--faults-stored " + faults.stored + " is unknown; choose auto, yes or no");
  if (!faults.list.empty()) return validate_list(job);
  selection_of(faults);
  const bool exact = job.fault_count.rfind("exact:", 0) == 0;
  const bool bits = fault_model_of(faults).of_bits();
  require(bits || job.ber.empty(),
          "--ber is the rate of single bits; with --fault-shape " + faults.shape +
              " give --event-rate, the probability that an event starts at a bit");
  require(!bits || faults.event_rate.empty(),
          "--event-rate is for --fault-shape burst:L and mbu:p1,p2,p3; give --ber");
  const std::vector<double>& rates = rates_of(job);
  require(exact || !rates.empty(),
          bits ? "--ber is missing: the probability that a bit flips, such as 1e-6"
               : "--event-rate is missing: the probability that an event starts at a bit, such as "
                 "1e-6");
  require(!exact || rates.empty(), (bits ? "--ber" : "--event-rate") +
                                       (" and --fault-count " + job.fault_count) +
                                       " contradict each other; give one");
  for (const double rate : rates) parse_sampler(job.fault_count, rate);
  if (exact) parse_sampler(job.fault_count, 0);
}

}  // namespace

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
  if (*own->division == DivideBy::kClass && selects_outputs(selection_of(job.faults)))
    throw UserError("--sampling " + job.sampling + ": outputs of nodes are one class; choose " +
                    "per-layer or per-bit");
  if (*own->division == DivideBy::kBit && fault_model_of(job.faults).of_words())
    throw UserError("--sampling " + job.sampling + ": with --fault-model " + job.faults.model +
                    " a fault hits a whole word; choose per-layer or per-class");
}

void validate(const ProtectionJob& job) {
  const double ratio = job.hardening.duplication.ratio;
  require(ratio >= 0 && ratio < 1, fmt::format("--hardening-ratio {} lies outside [0, 1); give the "
                                               "share of channels to duplicate, such as 0.1",
                                               ratio));
  if (job.hardening.fold_batch_norm) require_foldable(job.hardening.store);
  require(job.calibration_images != 0, "--calibration-images 0 leaves nothing to calibrate on");
}

void validate(const PruningJob& job) {
  const auto check_ratio = [](const std::string& option, double ratio) {
    require(ratio >= 0 && ratio < 1,
            fmt::format("{} {} lies outside [0, 1); give the share of channels to remove, such as "
                        "0.1",
                        option, ratio));
  };
  check_ratio("--pruning-ratio", job.plan.ratio);
  for (const auto& [layer, ratio] : job.plan.ratios)
    check_ratio("--pruning-ratios " + layer + " =", ratio);
  check_best_on(job.best_on);
  require(job.finetune_epochs >= 0 && job.finetune_epochs <= 1000000,
          "--finetune-epochs must be from 0 to 1000000");
  TrainOptions options = job.finetune;
  options.epochs = std::max<std::int64_t>(1, job.finetune_epochs);
  check_training(options, "--finetune-epochs", "--finetune-batch-size");
}

void validate(const ChannelFaultsJob& job) {
  require(!job.output.empty(),
          "channel-FI keeps its trials in a file: give --output, or --channel-trials FILE");
  const ChannelSampling& s = job.sampling;
  require(s.error > 0 && s.error < 1,
          fmt::format("--channel-error {} lies outside (0, 1); 0.01 is usual", s.error));
  require(s.t > 0 && s.t < 100,
          fmt::format("--channel-t {} lies outside (0, 100); 1.96 stands for 95 %", s.t));
  require(s.p > 0 && s.p < 1,
          fmt::format("--channel-p {} lies outside (0, 1); 0.5 is the safe choice", s.p));
  require(s.cap > 0, "--channel-cap 0: at least one trial per channel is needed");
  validate_half_width(job);
  require(
      job.confidence > 0 && job.confidence < 1,
      fmt::format("--channel-confidence {} lies outside (0, 1); 0.95 is usual", job.confidence));
  require(job.images_per_trial == -1 || job.images_per_trial > 0,
          fmt::format("--channel-images-per-trial {} must be at least 1, or -1 for all",
                      job.images_per_trial));
  require_engine(job.engine, "--channel-engine");
  validate_audit(job.audit, job.engine, "--channel-audit");
}

void validate(const Job& job) {
  require(!job.output.empty(), "--output result.h5 is missing: where shall the result go?");
  validate_sampling(job);
  require(job.images != 0, "--images 0: at least one image is needed");
  require(job.confidence > 0 && job.confidence < 1,
          fmt::format("--confidence {} lies outside (0, 1); 0.95 is usual", job.confidence));
  require(job.block > 0, "--batch-size must be at least 1");
  require(job.compute.threads > 0, "--threads must be at least 1");
  require(job.cache_budget_gib >= 0 && job.cache_budget_gib <= 1e6,
          "--cache-budget lies outside 0 … 1000000 GiB");
  require(job.publish_seconds >= 0, "--publish must not be negative");
  require_engine(job.engine, "--engine");
  validate_audit(job.audit, job.engine, "--audit");
  validate_faults(job);
  if (job.pruning) validate(*job.pruning);
  if (!job.protect) return;
  validate(job.protection);
  require(
      !job.all_combinations || (job.pruning && protects(job.protection.hardening)),
      "--all-combinations needs --pruning-ratio and a protection, such as --hardening-ratio 0.1");
  require(!job.all_combinations || job.hardened_output.empty(),
          "--hardened-output names one file, but --all-combinations makes two protected networks; "
          "leave one of the options out");
  require(protects(job.protection.hardening) || job.pruning || !job.also.empty(),
          "nothing to compare with: --hardening-ratio 0, --clipping none and --weight-bounds off "
          "protect nothing; choose a protection or name models with --also");
}

}  // namespace sentinel
