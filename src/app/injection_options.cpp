#include "app/options.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/core/text.hpp"
#include "sentinel/fault/trial_engine.hpp"

namespace sentinel {
namespace {

TrialRange parse_range(const std::string& text) {
  const std::size_t colon = text.find(':');
  const std::string begin = text.substr(0, colon);
  const std::string end = colon == std::string::npos ? "" : text.substr(colon + 1);
  const auto first = parse_number<std::uint64_t>(begin), behind = parse_number<std::uint64_t>(end);
  if (!first || !behind)
    throw UserError("--trial-range " + text +
                    " is no range; give first:end, such as 0:1000 for trials 0 to 999");
  return {*first, *behind};
}

/// The parts of memory that may fail, and how they do.
void add_faults(CLI::App& app, FaultsJob& faults) {
  app.add_option("--faults", faults.list,
                 "CSV with the faults of each trial (docs/fault_lists.md), instead of the options "
                 "that draw them");
  app.add_option_function<std::vector<std::string>>(
         "--fault-target",
         [&faults](const std::vector<std::string>& words) {
           faults.targets = parse_targets(words);
         },
         "What may fail in memory: weight, bias, bn, bound, scale, check, or parameters "
         "(all). Or outputs while the network runs: activation (of Conv2d and Linear), or "
         "post (what these read)")
      ->delimiter(',')
      ->default_str("weight");
  add_word(
      app, "--fault-lifetime",
      [&faults](const std::string& word) { faults.lifetime = parse_lifetime(word); }, "",
      "Which images a fault in an output hits: image (one; each image has its own; the "
      "default), or permanent (all of its trial)");
  app.add_option("--layers", faults.layers,
                 "Only layers whose names match a pattern with * and ?; !PATTERN takes out again")
      ->delimiter(',');
  app.add_option("--channels", faults.channels,
                 "Only these output channels and their copies: LAYER=0-3,7; other layers are out");
  app.add_option("--bits", faults.bits,
                 "Only these bits of every stored word: 31, 23-30, sign, exponent, mantissa, "
                 "message, check")
      ->delimiter(',');
  add_word(
      app, "--fault-model",
      [&faults](const std::string& word) { parse_effect(word, faults.model); },
      effect_name(faults.model),
      "flip, stuck-at-0, stuck-at-1; or whole words: random-word, value:V");
  add_word(
      app, "--fault-shape", [&faults](const std::string& word) { parse_shape(word, faults.model); },
      shape_name(faults.model),
      "bit; burst:L, L adjacent bits; mbu:p1,p2,p3, 1 to 3 adjacent bits");
  app.add_option("--event-rate", faults.event_rate,
                 "With other shapes than bit, instead of --ber: probability that an event starts "
                 "at a bit");
  add_word(
      app, "--faults-stored",
      [&faults](const std::string& word) { faults.stored = parse_faults_stored(word); },
      faults_stored_name(faults.stored),
      "Whether the result keeps each trial's faults: auto (up to 10000 of a trial), yes, no");
}

/// How many faults a trial has, how many trials there are, and how they are chosen.
void add_trials(CLI::App& app, Job& job, InjectionOptions& options) {
  app.add_option(
      "--ber", job.ber,
      "Probability that a bit fails, in [0, 1] (with --fault-model random-word and value: a "
      "word); several make several points");
  add_word(
      app, "--fault-count",
      [&job](const std::string& word) { job.fault_count = parse_fault_count(word); },
      fault_count_name(job.fault_count),
      "binomial: every bit by itself; per-layer-floor: floor(ber*bits) in each layer (seed tool); "
      "exact:K");
  app.add_flag("--single-bit", options.single_bit, "Short for --fault-count exact:1");
  app.add_option("--repeat", job.trials,
                 "Trials per point (100; with --half-width at most 1000000)")
      ->check(whole_number());
  app.add_option("--trial-range", options.range,
                 "Only trials first:end (end not included) of each point, to `merge` with others");
  add_word(
      app, "--sampling",
      [&job](const std::string& word) {
        const SamplingWord& own = parse_sampling(word);
        job.sampling = own.sampling;
        job.division = own.division;
      },
      sampling_word(job.sampling, job.division),
      "simple; stratified: a pilot, then trials where they tell most; with --single-bit also "
      "per-layer, per-class, per-bit: as many trials of each stored tensor, class or bit, with "
      "intervals of each (:allocated behind: shared out by a pilot)");
  app.add_option("--half-width", job.precision.half_width,
                 "Stop when the interval of the failing share (--single-bit) or accuracy is "
                 "estimate +- this, such as 0.003")
      ->capture_default_str();
  app.add_flag("--guaranteed", job.precision.guaranteed,
               "Wider intervals that hold for every number of trials (with --half-width: "
               "empirical-Bernstein; --single-bit --sampling stratified: MOVER for shares of "
               "failing images)");
}

/// What trials look at.
void add_images_of_trials(CLI::App& app, Job& job) {
  app.add_option("--images-per-trial", job.images_per_trial,
                 "A random block of so many test images in each trial (-1: all)")
      ->check(image_count())
      ->capture_default_str();
  add_word(
      app, "--images-of",
      [&job](const std::string& word) { job.images_of = parse_images_of(word); },
      images_of_name(job.images_of),
      "What trials look at: test images; held-out, the last tenth of the training images, on which "
      "`train` and `prune` do not train; first-half, second-half of the test images");
  add_images(app, job.images, "of these images");
}

}  // namespace

void add_also(CLI::App& app, Job& job) {
  app.add_option("--also", job.also,
                 "Checkpoints made from the same network, injected with the same faults: FILE, or "
                 "NAME=FILE (a file that is called so wins)");
}

void add_injection(CLI::App& app, Job& job, InjectionOptions& options) {
  add_faults(app, job.faults);
  add_trials(app, job, options);
  add_images_of_trials(app, job);
  add_whole(app, "--seed", job.seed, "Seed of all faults");
  app.add_option("--confidence", job.precision.confidence, "Of the intervals, in (0, 1)")
      ->capture_default_str();
  add_word(
      app, "--engine",
      [&job](const std::string& word) { job.engine = parse_engine(Setting::kEngine, word); },
      engine_name(job.engine), "fast, or reference: the whole network for every trial");
  app.add_option("--audit", job.audit,
                 "Share of the trials, in [0, 1], that are run again by the reference engine and "
                 "compared (default: as many as cost 2 % of the time; 0: none)");
  app.add_option("--batch-size", job.block, "Images per batch")->capture_default_str();
  app.add_option("--trials-at-once", job.trials_at_once,
                 "On a GPU: trials whose images run as one batch (default " +
                     std::to_string(kTrialsAtOnce) +
                     "). Part of the arithmetic, as --batch-size is");
  app.add_option("--cache-budget", job.cache_budget_gib,
                 "GiB per rank for fault-free activations (0: half of the rank's share of memory)")
      ->capture_default_str();
  app.add_option("--publish", job.publish_seconds,
                 "Publish the result file every so many seconds at most")
      ->capture_default_str();
  app.add_flag("--fresh", job.fresh, "Throw away a result that is there and start over");
  app.add_flag("--dedicated-driver", job.dedicated_driver, "Rank 0 only hands out work");
  app.add_option("--output", job.output, "Result file (HDF5)");
}

void finish_injection(const InjectionOptions& options, Job& job) {
  if (!options.range.empty()) job.range = parse_range(options.range);
  if (!options.single_bit) return;
  if (job.fault_count != FaultCount() && job.fault_count != kSingleFault)
    throw UserError("--single-bit and --fault-count " + fault_count_name(job.fault_count) +
                    " contradict each other; give one");
  job.fault_count = kSingleFault;
}

}  // namespace sentinel
