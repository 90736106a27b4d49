#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "sentinel/core/engine_path.hpp"
#include "sentinel/core/sampling_words.hpp"
#include "sentinel/fault/sampler.hpp"
#include "sentinel/fault/selection.hpp"
#include "sentinel/networks/device.hpp"
#include "sentinel/networks/pruning.hpp"
#include "sentinel/networks/selection.hpp"
#include "sentinel/stats/precision.hpp"
#include "sentinel/transform/channel_faults.hpp"
#include "sentinel/transform/harden.hpp"
#include "sentinel/transform/importance.hpp"
#include "sentinel/words/effect.hpp"

namespace sentinel {

/// The campaign behind `channel-FI`.
struct ChannelFaultsJob {
  ChannelSampling sampling;  // with a half-width only its cap counts
  std::optional<double> half_width =
      {};                              // of every score, from strata of bits; else a fixed number
  double confidence = 0.95;            // of the scores' intervals
  std::int64_t images_per_trial = -1;  // a random block of them, -1: all
  std::vector<std::string> layers;     // only these convolutions; empty: all
  std::string output;                  // its result file, which a later call goes on with
  EnginePath engine = EnginePath::kFast;
  std::optional<double> audit;  // as in Job
  bool fresh = false;
  std::string command, resolved;  // as in Job
};

/// How channels are ranked.
struct RankingJob {
  std::string importance = "l2-norm";  // a method's, or a name that `file` brings
  std::string file;                    // a ranking file instead of computing one
  std::int64_t images = -1;  // the first n training images, -1: as many as is usual for the method
  std::uint64_t seed = 1;    // of whatever is drawn
  DeepVigorOptions deepvigor;
  ChannelFaultsJob channel_faults;
};

/// How the protected model of a campaign is made from the unprotected (or pruned) one.
struct ProtectionJob {
  RankingJob ranking;
  HardeningPlan hardening;
  std::int64_t calibration_images = -1;  // the first n training images, -1: all
  bool fresh = false;                    // throw away what is kept of a search of bounds
  std::string command, resolved;         // as in Job
};

/// Whether the file keeps each trial's faults.
enum class FaultsStored {
  kAuto,  // up to 10000 of a trial
  kYes,
  kNo,
};
/// "auto", "yes", "no". UserError.
FaultsStored parse_faults_stored(const std::string& word);
std::string faults_stored_name(FaultsStored stored);

/// Which images the trials look at.
enum class ImagesOf {
  kTest,
  kHeldOut,    // the last tenth of the training images (held_out of train.hpp)
  kFirstHalf,  // of the test images
  kSecondHalf,
};
/// "test", "held-out", "first-half", "second-half".
/// UserError for an unknown word.
ImagesOf parse_images_of(const std::string& word);
std::string images_of_name(ImagesOf images);

/// The parts of memory that may fail, and how they do.
struct FaultsJob {
  std::vector<TensorClass> targets = {TensorClass::kWeight};  // as parse_targets gives them
  std::vector<std::string> layers;                            // globs, "!GLOB" excludes; empty: all
  std::vector<std::string> channels;                          // "LAYER=0-3,7"
  std::vector<std::string> bits;                              // "23-30", "sign" ...
  FaultModel model;                                           // but for its lifetime
  std::optional<Lifetime> lifetime;                           // of faults in outputs; empty: image
  std::vector<double> event_rate;  // [events/site/trial] with other shapes than bit, one point each
  std::string list;                // CSV that says the faults of each trial, instead of all above
  bool lists_outputs = false;      // `list` names outputs of nodes; noted when it is read
  FaultsStored stored = FaultsStored::kAuto;
};
/// UserError where two options contradict each other. Of a list: all classes.
Selection selection_of(const FaultsJob& faults);
FaultModel fault_model_of(const FaultsJob& faults);
/// Faults of a trial that are kept at most.
std::size_t most_stored_faults(const FaultsJob& faults);

/// Ids begin ... end - 1 of every point.
struct TrialRange {
  std::uint64_t begin = 0, end = 0;
};

/// One fault-injection campaign; a pure description from which every rank builds the same graphs
/// and batches.
struct Job {
  ModelSelection selection;
  Compute compute;
  bool protect = false;  // campaign: also a protected model, injected with paired faults
  ProtectionJob protection;
  std::optional<PruningJob> pruning;  // campaign: prune and fine-tune first
  bool all_combinations = false;      // campaign: with both, also the hardened network not pruned
  std::vector<std::string> also;      // FILE or NAME=FILE, made from the same network, injected too

  FaultsJob faults;
  std::vector<double> ber;  // [faults/site/trial], one point each; empty with exact:K and events
  FaultCount fault_count;
  // Trials per point; empty: 100, or with half_width at most a million.
  std::optional<std::uint64_t> trials;
  std::optional<TrialRange> range;        // only these of them
  Sampling sampling = Sampling::kSimple;  // of those that parse_sampling gives; with half_width
                                          // simple stands for sequential
  std::optional<DivideBy> division;       // equal, stratified
  Precision precision;  // its half-width: of the share of failing images (exact:1) or the accuracy
  std::int64_t images_per_trial = -1;  // a random block of them, -1: all
  ImagesOf images_of = ImagesOf::kTest;
  std::int64_t images = -1;  // the first n of them, -1: all
  std::uint64_t seed = 1;

  EnginePath engine = EnginePath::kFast;
  // Share of the trials that are run again by the reference path, 0 ... 1; empty: as many as cost
  // 2 % of the time.
  std::optional<double> audit;
  std::int64_t block = 32;                     // images per batch
  std::optional<std::int64_t> trials_at_once;  // on a GPU; empty: kTrialsAtOnce
  double cache_budget_gib =
      0;  // of fault-free activations per rank; 0: half of this rank's share of memory
  int publish_seconds = 30;
  bool fresh = false, dedicated_driver = false;
  std::string output;           // result.h5
  std::string hardened_output;  // where to write the protected model, empty: beside the result

  std::string command, resolved;  // the command line; all options as TOML
};

/// The rates of its points: ber, or event_rate with other shapes than bit.
const std::vector<double>& rates_of(const Job& job);
/// Trials of each point, with a half-width at most. Not of a list, which says it itself.
std::uint64_t planned_trials(const Job& job);

/// That of every score; half-width 0: another number of trials, by `sampling`.
Precision precision_of(const ChannelFaultsJob& job);

/// Why no network of Job::also can be called so; empty: it can.
std::string no_network_name(const std::string& name);

/// Whether the plan protects anything.
bool protects(const HardeningPlan& plan);

}  // namespace sentinel
