#pragma once
#include <CLI/CLI.hpp>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "app/command.hpp"
#include "sentinel/campaign/job.hpp"
#include "sentinel/comm/comm.hpp"
#include "sentinel/core/word_table.hpp"

namespace sentinel {

/// A whole number of 64 bits.
CLI::Validator whole_number();
/// 1 or more, or -1 for all.
CLI::Validator image_count();

/// An option with a whole number from 0 on. (CLI11 takes -1 for 2^64 - 1.)
CLI::Option* add_whole(CLI::App& app, const std::string& name, std::uint64_t& value,
                       const std::string& what);

/// An option with words for values, one of them `usual` (empty: none); `take` is given the word,
/// and throws a UserError where it stands for nothing.
CLI::Option* add_word(CLI::App& app, const std::string& name,
                      const std::function<void(const std::string&)>& take, const std::string& usual,
                      const std::string& what);

/// An option with the words of a set, of which `value` holds the usual one.
template <class T, std::size_t N>
void add_choice(CLI::App& app, const std::string& name, const NamedValue<T> (&set)[N], T& value,
                const std::string& what) {
  const auto take = [name, &set, &value](const std::string& word) {
    std::vector<std::string> known;
    for (const NamedValue<T>& own : set) {
      if (own.word == word) {
        value = own.value;
        return;
      }
      known.emplace_back(own.word);
    }
    throw UserError(unknown_word(name, word, known));
  };
  add_word(app, name, take, word_for(set, value), what);
}

/// Whether what --model says is a file rather than the name of an architecture.
bool is_network_file(const std::string& model);

/// Options that several subcommands share.
void add_selection(CLI::App& app, ModelSelection& selection);
/// What the seed tool's own checkpoints do not say of themselves.
void add_seed_checkpoint(CLI::App& app, ModelSelection& selection);
void add_images(CLI::App& app, std::int64_t& images, const std::string& what);

/// --device, --threads, --share-gpu. `default_threads` 0: as `resolved` says.
void add_compute(CLI::App& app, Compute& compute, int default_threads);
/// UserError for a number of threads that no host has cores for.
void check_threads(int threads);
/// Where --threads is 0: OMP_NUM_THREADS, else the CPUs that this rank has. check_threads()
/// holds.
Compute resolved(const Compute& compute, const Comm& comm);

/// Options of whatever ranks channels, as typed; `ranking_job` translates (UserError).
struct RankingOptions {
  RankingJob job;
  std::string positions = "log2";
};
void add_ranking(CLI::App& app, RankingOptions& options);
RankingJob ranking_job(const RankingOptions& options);
/// --deepvigor-search, --deepvigor-limit.
void add_tolerances(CLI::App& app, ToleranceOrder& search, bool& limited);
/// --channel-layers, for a ranking that is to be looked at: hardening and pruning need all layers.
void add_channel_layers(CLI::App& app, RankingOptions& options);
/// Where channel-FI keeps its trials unless told: beside the command's `output`, or in the
/// workspace under its name; and what its result says of the command.
void keep_channel_trials(RankingJob& job, const Context& context, const std::string& output);

/// Options of prune and campaign as typed; `pruning_job` translates (UserError). Of the defaults of
/// training, fine-tuning has a smaller learning rate.
struct PruningOptions {
  PruningOptions() {
    job.finetune.learning_rate = 0.01;
    job.finetune.augment = false;
  }
  PruningJob job;
  std::vector<std::string> ratios;  // "layer=r"
  std::string group_score =
      "mean";  // an option of its own where hardening does not have it already
};
/// All but --group-score and the seed.
void add_pruning(CLI::App& app, PruningOptions& options);
PruningJob pruning_job(const PruningOptions& options);

void add_best_on(CLI::App& app, BestOn& best_on);

void add_group_score(CLI::App& app, std::string& group_score);
/// UserError for an unknown kind.
GroupScore group_score_of(const std::string& word);

/// --store, repeatable.
void add_store(CLI::App& app, std::vector<std::string>& store);
/// UserError naming what is wrong.
std::vector<StoreRule> store_rules(const std::vector<std::string>& store);

/// Options of harden and campaign as typed; `protection_job` translates (UserError for unknown
/// kinds).
struct ProtectionOptions {
  RankingOptions ranking;
  double ratio = 0.1;
  std::vector<std::string> overhead;  // share, of what; empty: by the ratio
  std::string selection = "own", correction = "range", clipping = "ranger", bounds = "layer",
              group_score = "mean", weight_bounds = "off", bound_search = "max";
  std::vector<std::string> store;
  bool fold_batch_norm = false;
  std::vector<double> bound_rates;  // empty: the usual ones
  std::uint64_t bound_seed = BoundSearch().seed;
  std::optional<std::int64_t> bound_epochs;
  std::int64_t calibration_images = -1;
};
void add_protection(CLI::App& app, ProtectionOptions& options);
ProtectionJob protection_job(const ProtectionOptions& options);
/// Where channel-FI keeps its trials, and what results of trials say of the command.
void keep_trials(ProtectionJob& job, const Context& context, const std::string& output);

/// What inject, campaign and plan are told of the faults, as typed where a Job has it otherwise.
struct InjectionOptions {
  bool single_bit = false;  // stands for fault_count = kSingleFault
  std::string range;        // "first:end"
};
/// --also, of campaign and plan.
void add_also(CLI::App& app, Job& job);
void add_injection(CLI::App& app, Job& job, InjectionOptions& options);
/// Into the job. UserError where they contradict it.
void finish_injection(const InjectionOptions& options, Job& job);

}  // namespace sentinel
