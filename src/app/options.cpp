#include "app/options.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "sentinel/core/cpus.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/graph/rules.hpp"
#include "sentinel/models/model.hpp"
#include "sentinel/networks/device.hpp"
#include "sentinel/networks/pruning.hpp"
#include "sentinel/networks/selection.hpp"

namespace sentinel {
namespace {

constexpr NamedValue<OverheadOf> kOverheadOf[] = {{"parameters", OverheadOf::kParameters},
                                                  {"macs", OverheadOf::kMacs}};
constexpr NamedValue<bool> kPositions[] = {{"log2", false}, {"all", true}};
constexpr NamedValue<bool> kLimits[] = {{"none", false}, {"1024", true}};
constexpr NamedValue<ToleranceOrder> kSearches[] = {
    {"exhaustive", ToleranceOrder::kExhaustive},
    {"bisect", ToleranceOrder::kBisect},
    {"proportional", ToleranceOrder::kProportional}};
constexpr NamedValue<GroupScore> kGroupScores[] = {{"mean", GroupScore::kMean},
                                                   {"first", GroupScore::kFirst}};
constexpr NamedValue<RowLayout> kSelections[] = {{"own", RowLayout::kOwn},
                                                 {"group", RowLayout::kGroup}};
constexpr NamedValue<Correction> kCorrections[] = {{"range", Correction::kRange},
                                                   {"min", Correction::kMin}};
constexpr NamedValue<BoundsPer> kBoundsPer[] = {
    {"layer", BoundsPer::kLayer}, {"channel", BoundsPer::kChannel}, {"neuron", BoundsPer::kNeuron}};
constexpr NamedValue<std::optional<WeightBoundsPer>> kWeightBoundsPer[] = {
    {"off", {}}, {"layer", WeightBoundsPer::kLayer}, {"channel", WeightBoundsPer::kChannel}};

/// Nothing for "none".
std::optional<Clipping> clipping_of(const std::string& word) {
  if (word == "none") return {};
  std::vector<std::string> known;
  for (const auto& [clipping, name] : rules::kClippings) {
    if (word == name) return clipping;
    known.emplace_back(name);
  }
  known.emplace_back("none");
  throw UserError(unknown_word("--clipping", word, known));
}

/// Nothing without.
std::optional<Overhead> overhead_of(const std::vector<std::string>& words) {
  if (words.empty()) return {};
  char* end = nullptr;
  const double share = std::strtod(words[0].c_str(), &end);
  if (words.size() != 2 || words[0].empty() || *end != '\0')
    throw UserError(spelled(Setting::kOverhead) + fmt::format(" {}", fmt::join(words, ":")) +
                    ": a share and what it is a share of are wanted, such as 0.05:parameters or "
                    "0.05:macs");
  return Overhead{share, parse_word(kOverheadOf, Setting::kOverhead, words[1])};
}

/// What is wrong with a text as a whole number of 64 bits, nothing if it is one.
std::string no_whole_number(const std::string& text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc() && end == text.data() + text.size()) return "";
  return text + " is no whole number from 0 to 18446744073709551615";
}

/// What is wrong with a text as a number of images, nothing if it is one.
std::string no_image_count(const std::string& text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  if (whole && (value == -1 || value >= 1)) return "";
  return text + " is no number of images (1 or more, or -1 for all)";
}

void add_channel_faults(CLI::App& app, ChannelFaultsJob& job) {
  const auto add = [&](const std::string& name, auto& value, const std::string& what) {
    app.add_option(name, value, what)->capture_default_str();
  };
  add("--channel-error", job.sampling.error,
      "channel-FI: flips per channel for a share of failures to +- this, in (0, 1)");
  add("--channel-t", job.sampling.t, "channel-FI: quantile behind --channel-error (1.96: 95 %)");
  add("--channel-p", job.sampling.p, "channel-FI: expected share of failures, in (0, 1)");
  add_whole(app, "--channel-cap", job.sampling.cap,
            "channel-FI: at most so many flips per channel");
  app.add_option("--channel-half-width", job.half_width,
                 "channel-FI: instead of --channel-error, flips of each bit class until every "
                 "score is known to +- this, in (0, 0.5); 0.01 takes some 370 flips per channel");
  add("--channel-confidence", job.confidence, "channel-FI: of the intervals of the scores");
  add("--channel-images-per-trial", job.images_per_trial,
      "channel-FI: each flip on a random block of so many of the images (-1: all); the score is "
      "the same, a flip of 16 costs a sixteenth of one of 256");
  app.add_option("--channel-trials", job.output,
                 "channel-FI: file of its trials, to resume from (<output>.trials.h5)");
  add_word(
      app, "--channel-engine",
      [&job](const std::string& word) { job.engine = parse_engine(Setting::kChannelEngine, word); },
      engine_name(job.engine), "channel-FI: fast, or reference");
  app.add_option("--channel-audit", job.audit, "channel-FI: as --audit of `inject`");
  app.add_flag("--channel-fresh", job.fresh, "channel-FI: throw away trials that are there");
}

void add_normalisation(CLI::App& app, NormalisationChoice& choice) {
  app.add_option("--mean", choice.mean,
                 "Images are (pixel / 255 - mean) / std: a number for each channel, or cifar10, "
                 "cifar10-2023, cifar100, imagenet, none (for both); otherwise as the checkpoint "
                 "says, or as usual for the data set")
      ->delimiter(',');
  app.add_option("--std", choice.std, "See --mean")->delimiter(',');
}

void choose_file(const std::string& path, ModelSelection& selection) {
  if (!selection.checkpoint.empty() && selection.checkpoint != path)
    throw CLI::ValidationError("two networks are given, " + selection.checkpoint + " and " + path +
                               "; a TorchScript file has its weights in it, leave one out");
  selection.checkpoint = path;
}

void choose_model(const std::string& word, ModelSelection& selection) {
  if (is_network_file(word)) return choose_file(word, selection);
  selection.model = word;
}

}  // namespace

CLI::Validator whole_number() {
  return {no_whole_number, "", "whole number"};
}

CLI::Validator image_count() {
  return {no_image_count, "", "images"};
}

bool is_network_file(const std::string& model) {
  const auto known = model_names();
  if (std::find(known.begin(), known.end(), model) != known.end()) return false;
  const std::string end = std::filesystem::path(model).extension().string();
  std::error_code none;
  return model.find('/') != std::string::npos || end == ".ts" || end == ".pt" || end == ".pth" ||
         end == ".safetensors" || std::filesystem::is_regular_file(model, none);
}

CLI::Option* add_whole(CLI::App& app, const std::string& name, std::uint64_t& value,
                       const std::string& what) {
  return app.add_option(name, value, what)->check(whole_number())->capture_default_str();
}

CLI::Option* add_word(CLI::App& app, const std::string& name,
                      const std::function<void(const std::string&)>& take, const std::string& usual,
                      const std::string& what) {
  return app.add_option_function<std::string>(name, take, what)->default_str(usual);
}

void add_selection(CLI::App& app, ModelSelection& selection) {
  app.add_option_function<std::string>(
      "--model", [&selection](const std::string& word) { choose_model(word, selection); },
      "Architecture, such as resnet20 (not needed for sentinelnn checkpoints), or a TorchScript "
      "file with its weights: a program, of which only operators on a list run, one by one "
      "(docs/torchscript.md)");
  app.add_option("--dataset", selection.dataset, "cifar10, cifar100, imagenet or synthetic");
  app.add_option("--data", selection.data, "Folder with the data set's files");
  add_normalisation(app, selection.normalisation);
  app.add_flag("--skip-broken", selection.skip_broken,
               "Leave out images of imagenet that cannot be read, instead of ending");
  app.add_option_function<std::string>(
      "--checkpoint", [&selection](const std::string& path) { choose_file(path, selection); },
      "Trained network: a .pth state_dict, a .safetensors file, or a TorchScript file");
  app.add_option("--weights-key", selection.weights_key,
                 "Which dictionary of tensors in the checkpoint, such as state_dict_ema (`inspect` "
                 "lists them); otherwise the first that fits");
}

void add_seed_checkpoint(CLI::App& app, ModelSelection& selection) {
  app.add_option("--pruning-ratio", selection.pruning_ratio,
                 "Of a checkpoint that the seed tool pruned; checked against its widths");
  app.add_option("--hardening-ratio", selection.hardening_ratio,
                 "Of a checkpoint that the seed tool hardened; checked against its copies");
  add_word(
      app, "--clipping",
      [&selection](const std::string& word) { selection.clipping = parse_clipping(word); }, "",
      "Of a checkpoint that the seed tool hardened: ranger, ranger-clamp or smooth, with bounds "
      "from all training images");
}

void add_images(CLI::App& app, std::int64_t& images, const std::string& what) {
  app.add_option("--images", images, "Only the first N " + what + " (-1: all)")
      ->check(image_count())
      ->capture_default_str();
}

void add_compute(CLI::App& app, Compute& compute, int default_threads) {
  compute.threads = default_threads;
  add_word(
      app, "--device", [&compute](const std::string& word) { compute.device = parse_device(word); },
      device_name(compute.device), "auto, cpu or cuda (one GPU per local rank)");
  app.add_option("--threads", compute.threads,
                 "CPU threads per rank (0: OMP_NUM_THREADS, else as many as it has CPUs)")
      ->capture_default_str();
  app.add_flag("--share-gpu", compute.share_gpu, "Let several ranks use one GPU");
}

void check_threads(int threads) {
  if (threads < 0 || threads > kMostThreads)
    throw UserError(fmt::format("--threads {} is no number from 0 to {}", threads, kMostThreads));
}

Compute resolved(const Compute& compute, const Comm& comm) {
  Compute result = compute;
  check_threads(compute.threads);
  if (compute.threads == 0)
    result.threads = std::min(default_threads(comm.cpus(), comm.local_size()), kMostThreads);
  const double cpus = std::max(1.0, std::ceil(comm.cpus()));
  if (result.threads > 2 * cpus)
    spdlog::warn(
        "{} threads (--threads, or OMP_NUM_THREADS) are far more than the {:.0f} CPUs of this "
        "rank; they wait for each other, fewer are faster",
        result.threads, cpus);
  return result;
}

void add_tolerances(CLI::App& app, ToleranceOrder& search, bool& limited) {
  add_choice(
      app, "--deepvigor-search", kSearches, search,
      "How tolerances are searched: exhaustive; proportional, as if small shifts in a row that "
      "move the logits in proportion changed nothing; or bisect, as if larger shifts always "
      "mattered where smaller ones do");
  add_choice(app, "--deepvigor-limit", kLimits, limited,
             "Largest tolerance: none, or 1024, as the authors of DeepVigor have it");
}

void add_ranking(CLI::App& app, RankingOptions& o) {
  app.add_option(
         "--importance", o.job.importance,
         "How channels are ranked: " + fmt::format("{}", fmt::join(importance_names(), ", ")))
      ->capture_default_str();
  app.add_option("--ranking-images", o.job.images,
                 "Rank by the first N training images (-1: as many as is usual for the method)")
      ->check(image_count())
      ->capture_default_str();
  add_whole(app, "--ranking-seed", o.job.seed, "Seed of what the method draws");
  app.add_option("--deepvigor-positions", o.positions,
                 "Output positions that deepvigor looks at: log2 (of their number, drawn) or all")
      ->capture_default_str();
  add_tolerances(app, o.job.deepvigor.search, o.job.deepvigor.limited);
  app.add_option("--workspace", o.job.deepvigor.cache,
                 "Folder for what is worth keeping between calls, such as deepvigor's factors");
  add_channel_faults(app, o.job.channel_faults);
}

void add_channel_layers(CLI::App& app, RankingOptions& o) {
  app.add_option("--channel-layers", o.job.channel_faults.layers,
                 "channel-FI: only these convolutions, such as conv1 layer3.2.conv1");
}

void keep_channel_trials(RankingJob& job, const Context& context, const std::string& output) {
  ChannelFaultsJob& own = job.channel_faults;
  own.command = context.command;
  own.resolved = context.resolved;
  std::filesystem::path beside = output;
  if (!job.deepvigor.cache.empty()) beside = job.deepvigor.cache / beside.filename();
  if (own.output.empty() && !output.empty()) own.output = beside.string() + ".trials.h5";
}

RankingJob ranking_job(const RankingOptions& o) {
  RankingJob job = o.job;
  job.deepvigor.all_positions = parse_word(kPositions, Setting::kDeepvigorPositions, o.positions);
  return job;
}

void add_pruning(CLI::App& app, PruningOptions& o) {
  app.add_option("--pruning-ratio", o.job.plan.ratio,
                 "Share of every channel group to remove, in [0, 1)")
      ->capture_default_str();
  app.add_option("--pruning-ratios", o.ratios,
                 "Other ratios for some convolutions and the channels they share: layer=r,...")
      ->delimiter(',');
  TrainOptions& train = o.job.finetune;
  app.add_option("--finetune-epochs", o.job.finetune_epochs,
                 "Passes over the training images after pruning (0: none)")
      ->capture_default_str();
  app.add_option("--finetune-batch-size", train.batch_size, "Images per step of fine-tuning")
      ->capture_default_str();
  app.add_option("--lr", train.learning_rate,
                 "First learning rate of fine-tuning, then a cosine to 0")
      ->capture_default_str();
  app.add_option("--momentum", train.momentum, "Of fine-tuning by SGD")->capture_default_str();
  app.add_option("--weight-decay", train.weight_decay, "Of fine-tuning by SGD")
      ->capture_default_str();
  app.add_flag("--augment,!--no-augment", train.augment, "Random crops and flips in fine-tuning");
  add_best_on(app, o.job.best_on);
}

void add_best_on(CLI::App& app, BestOn& best_on) {
  add_word(
      app, "--select", [&best_on](const std::string& word) { best_on = parse_best_on(word); },
      best_on_name(best_on),
      "The best epoch on a held-out tenth (held-out) or the test images (test)");
}

void add_group_score(CLI::App& app, std::string& group_score) {
  app.add_option("--group-score", group_score,
                 "Order of coupled channels: mean or first (seed tool)")
      ->capture_default_str();
}

GroupScore group_score_of(const std::string& word) {
  return parse_word(kGroupScores, Setting::kGroupScore, word);
}

PruningJob pruning_job(const PruningOptions& o) {
  PruningJob job = o.job;
  job.plan.group_score = group_score_of(o.group_score);
  for (const std::string& text : o.ratios) {
    const std::size_t equals = text.rfind('=');
    const std::string layer = text.substr(0, equals);
    const std::string number = equals == std::string::npos ? "" : text.substr(equals + 1);
    char* end = nullptr;
    const double ratio = std::strtod(number.c_str(), &end);
    if (layer.empty() || number.empty() || *end != '\0')
      throw UserError("--pruning-ratios " + text +
                      ": layer=ratio is wanted, such as layer1.0.conv1=0.2");
    if (!job.plan.ratios.emplace(layer, ratio).second)
      throw UserError("--pruning-ratios names layer " + layer + " twice");
  }
  return job;
}

void add_store(CLI::App& app, std::vector<std::string>& store) {
  app.add_option("--store", store,
                 "How values are kept in memory: CLASS[,CLASS...][@LAYERS]=FORMAT[+CODE], such as "
                 "weight=int5:channel+bch:16,5; docs/layouts.md lists formats and codes");
}

std::vector<StoreRule> store_rules(const std::vector<std::string>& store) {
  std::vector<StoreRule> rules;
  rules.reserve(store.size());
  for (const std::string& text : store) rules.push_back(parse_store_rule(text));
  return rules;
}

void add_protection(CLI::App& app, ProtectionOptions& o) {
  add_ranking(app, o.ranking);
  app.add_option("--ranking", o.ranking.job.file,
                 "Ranking file of `rank` to use instead of --importance");
  CLI::Option* ratio =
      app.add_option("--hardening-ratio", o.ratio,
                     "Share of each convolution's channels to duplicate, in [0, 1); 0: none")
          ->capture_default_str();
  app.add_option("--overhead", o.overhead,
                 "Instead: duplicate the channels of all convolutions in order of benefit per "
                 "cost, until the network has so much more, such as 0.05:parameters or 0.05:macs")
      ->delimiter(':')
      ->expected(1, 2)
      ->type_name("SHARE:parameters|macs")
      ->excludes(ratio);
  app.add_option("--selection", o.selection,
                 "own: each convolution's best; group: the channel group's best (seed tool)")
      ->capture_default_str();
  app.add_option("--correction", o.correction, "How two copies merge: range or min (seed tool)")
      ->capture_default_str();
  app.add_option(
         "--clipping", o.clipping,
         "Beyond an activation's bound: ranger (0), ranger-clamp (the bound), smooth (falls off "
         "at it; ReLUs alone), none")
      ->capture_default_str();
  app.add_option("--bounds", o.bounds, "One activation bound per layer, channel or neuron")
      ->capture_default_str();
  app.add_option("--bound-search", o.bound_search,
                 "Activation bounds from the calibration images: max, or percentile:q such as "
                 "percentile:99.9 (the value that q % of the activations do not exceed); searched "
                 "by trials below max: ftclip; trained, with --clipping smooth: fitact, proact")
      ->capture_default_str();
  app.add_option("--bound-rates", o.bound_rates,
                 "ftclip: BERs at which accuracy is compared, ascending (1e-7,1e-6,3e-6,1e-5,3e-5)")
      ->delimiter(',');
  add_whole(app, "--bound-seed", o.bound_seed,
            "Seed of ftclip's faults, or of the order of images of fitact and proact");
  app.add_option("--bound-epochs", o.bound_epochs,
                 "Passes over the calibration images: fitact (10), proact (3 for each call site)");
  app.add_option("--weight-bounds", o.weight_bounds,
                 "Read weights outside their fault-free range as 0: off, layer or channel")
      ->capture_default_str();
  add_store(app, o.store);
  app.add_flag("--fold-batch-norm", o.fold_batch_norm,
               "Fold batch norm into the scales and biases of convolutions; needs --store "
               "weight=intN:channel[+CODE]");
  add_group_score(app, o.group_score);
  app.add_option("--calibration-images", o.calibration_images,
                 "Bounds from the first N training images (-1: all)")
      ->check(image_count())
      ->capture_default_str();
}

ProtectionJob protection_job(const ProtectionOptions& o) {
  ProtectionJob job;
  job.ranking = ranking_job(o.ranking);
  job.calibration_images = o.calibration_images;
  DuplicationPlan& plan = job.hardening.duplication;
  plan.ratio = o.ratio;
  plan.overhead = overhead_of(o.overhead);
  plan.layout = parse_word(kSelections, Setting::kSelection, o.selection);
  plan.correction = parse_word(kCorrections, Setting::kCorrection, o.correction);
  plan.group_score = group_score_of(o.group_score);
  job.hardening.bounds = parse_word(kBoundsPer, Setting::kBounds, o.bounds);
  job.hardening.search = parse_bound_search(o.bound_search);
  if (!o.bound_rates.empty()) job.hardening.search.rates = o.bound_rates;
  job.hardening.search.seed = o.bound_seed;
  job.hardening.search.epochs = o.bound_epochs;
  job.hardening.weight_bounds =
      parse_word(kWeightBoundsPer, Setting::kWeightBounds, o.weight_bounds);
  const std::optional<Clipping> clipping = clipping_of(o.clipping);
  job.hardening.store = store_rules(o.store);
  job.hardening.fold_batch_norm = o.fold_batch_norm;
  job.hardening.restricted = clipping.has_value();
  if (clipping) job.hardening.clipping = *clipping;
  return job;
}

void keep_trials(ProtectionJob& job, const Context& context, const std::string& output) {
  keep_channel_trials(job.ranking, context, output);
  job.command = context.command;
  job.resolved = context.resolved;
}

}  // namespace sentinel
