#include "sentinel/campaign/job.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "sentinel/core/error.hpp"
#include "sentinel/fault/sampler.hpp"

namespace sentinel {
namespace {

void require(bool holds, const std::string& message) {
  if (!holds) throw UserError(message);
}

void require_engine(const std::string& engine, const std::string& option) {
  require(engine == "fast" || engine == "reference",
          option + " " + engine + " is unknown; choose fast or reference");
}

}  // namespace

void validate(const ProtectionJob& job) {
  const double ratio = job.hardening.duplication.ratio;
  require(ratio >= 0 && ratio < 1, fmt::format("--hardening-ratio {} lies outside [0, 1); give the "
                                               "share of channels to duplicate, such as 0.1",
                                               ratio));
  require(job.calibration_images != 0, "--calibration-images 0 leaves nothing to calibrate on");
}

bool protects(const HardeningPlan& plan) {
  return plan.duplication.ratio > 0 || plan.restricted || plan.weight_bounds;
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
  check_select(job.select);
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
  require_engine(job.engine, "--channel-engine");
}

void validate(const Job& job) {
  require(!job.output.empty(), "--output result.h5 is missing: where shall the result go?");
  require(job.trials > 0, "--repeat 0: at least one trial is needed");
  require(job.images != 0, "--images 0: at least one image is needed");
  require(job.confidence > 0 && job.confidence < 1,
          fmt::format("--confidence {} lies outside (0, 1); 0.95 is usual", job.confidence));
  require(job.block > 0, "--batch-size must be at least 1");
  require(job.compute.threads > 0, "--threads must be at least 1");
  require(job.cache_budget_gib >= 0 && job.cache_budget_gib <= 1e6,
          "--cache-budget lies outside 0 … 1000000 GiB");
  require(job.publish_seconds >= 0, "--publish must not be negative");
  require_engine(job.engine, "--engine");
  const bool exact = job.fault_count.rfind("exact:", 0) == 0;
  require(exact || !job.ber.empty(),
          "--ber is missing: the probability that a bit flips, such as 1e-6");
  require(!exact || job.ber.empty(),
          "--ber and --fault-count " + job.fault_count + " contradict each other; give one");
  for (double ber : job.ber) parse_sampler(job.fault_count, ber);
  if (exact) parse_sampler(job.fault_count, 0);
  if (job.pruning) validate(*job.pruning);
  if (!job.protect) return;
  validate(job.protection);
  require(protects(job.protection.hardening) || job.pruning || !job.also.empty(),
          "nothing to compare with: --hardening-ratio 0, --clipping none and --weight-bounds off "
          "protect nothing; choose a protection or name models with --also");
}

}  // namespace sentinel
