#include "campaign/build.hpp"

#include <spdlog/spdlog.h>

#include <filesystem>
#include <utility>

#include "campaign/job_networks.hpp"
#include "campaign/result_info.hpp"
#include "campaign/sampling.hpp"
#include "sentinel/campaign/fault_lists.hpp"
#include "sentinel/campaign/protecting.hpp"
#include "sentinel/campaign/ranking.hpp"
#include "sentinel/campaign/trial_images.hpp"
#include "sentinel/core/file.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/core/stop.hpp"
#include "sentinel/graph/profile.hpp"
#include "sentinel/models/model.hpp"
#include "sentinel/networks/load.hpp"
#include "sentinel/networks/network.hpp"
#include "sentinel/networks/normalisation.hpp"
#include "sentinel/networks/outputs.hpp"
#include "sentinel/networks/pruning.hpp"
#include "sentinel/networks/selection.hpp"
#include "sentinel/networks/training_state.hpp"

namespace sentinel {
namespace {

void require_unprotected(const NamedModel& model, const std::string& path) {
  if (steps_before_protection(model.graph)) return;
  throw SharedError(ExitCode::kUsage,
                    path +
                        ": this network is protected already, by copies, by bounds or by a code of "
                        "its words; campaign starts from an unprotected one (inject takes it)");
}

/// From which file a network that the job makes may be taken, empty: none. A checkpoint of an
/// earlier version does not say which weights it was made with; then the result must, whose
/// fingerprint has them.
std::string reusable(const Comm& comm, const Job& job, const std::string& path) {
  std::error_code none;
  if (job.fresh || comm.rank() != 0 || !std::filesystem::exists(path, none)) return "";
  if (std::filesystem::exists(job.output, none)) return path;
  try {
    if (!read_provenance(read_file(path), path).network_sha256.empty()) return path;
  } catch (const DataError&) {
  }
  spdlog::warn(
      "{} is there without its result {}, and does not say which weights it was made "
      "with; it is made again",
      path, job.output);
  return "";
}

/// Prunes and fine-tunes the original.
NamedModel prune_original(const Comm& comm, const Job& job, at::Device device, const Built& built,
                          const std::string& path) {
  const StopWatch watch;
  NamedModel pruned =
      make_pruned(comm, built.models[0], job.selection, built.scores, *job.pruning, device,
                  job.command, state_beside(path), reusable(comm, job, path));
  // At once, where nothing is overwritten: what follows may fail, and fine-tuning was long.
  comm.from_root([&] {
    if (!std::filesystem::exists(path)) {
      write_network(path, pruned.made);
      require_not_stopped();
    }
    return Bytes();
  });
  return pruned;
}

/// Hardens the original, or the pruned network, which is ranked anew.
NamedModel harden_one(const Comm& comm, const Job& job, at::Device device, const Built& built,
                      const MadeNetwork& made) {
  const NamedModel& base = built.models[made.of_pruned ? 1 : 0];
  ChannelScores again;
  if (made.of_pruned && duplicates(job.protection.hardening.duplication)) {
    RankingJob ranking = job.protection.ranking;
    ranking.file.clear();  // it ranks the original
    ranking.channel_faults.output += ".pruned.h5";
    again = channel_scores(comm, base, job.selection, ranking, device);
  }
  const ChannelScores& scores = made.of_pruned ? again : built.scores;
  return make_protected(comm, base, job.selection, scores, job.protection, device, made.path,
                        reusable(comm, job, made.path));
}

/// What the plan makes of an original, which may be pruned itself.
std::string name_of_made(const Built& built, const MadeNetwork& made) {
  return joined_steps(steps_before_protection(built.models[0].graph).value_or(""), made.steps);
}

void require_fitting(const NamedModel& model, const std::vector<NamedModel>& others,
                     const std::string& path) {
  for (const NamedModel& other : others)
    if (other.name == model.name)
      throw SharedError(ExitCode::kUsage, spelled(Setting::kAlso) + " " + path +
                                              ": there is a model named '" + model.name +
                                              "' already; give another name by " +
                                              spelled(Setting::kAlso) + " NAME=FILE");
  const Graph& original = others[0].graph;
  if (model.graph.architecture != original.architecture ||
      class_count(model.graph) != class_count(original))
    throw SharedError(ExitCode::kUsage, spelled(Setting::kAlso) + " " + path + ": this is a " +
                                            model.graph.architecture + ", not made from the " +
                                            original.architecture + " of " +
                                            spelled(Setting::kCheckpoint));
}

/// The same on every rank: only rank 0 sees the files.
std::vector<GivenNetwork> shared_given(const Comm& comm, const Job& job) {
  const Bytes bytes = comm.from_root([&] {
    ByteWriter writer;
    for (const GivenNetwork& given : given_networks(job))
      for (const std::string& text : {given.name, given.path})
        writer.vector(std::vector<char>(text.begin(), text.end()));
    return writer.take();
  });
  std::vector<GivenNetwork> all;
  ByteReader reader(bytes, "networks of " + spelled(Setting::kAlso));
  while (!reader.done()) {
    const auto name = read_vector<char>(reader), path = read_vector<char>(reader);
    all.push_back({{name.begin(), name.end()}, {path.begin(), path.end()}});
  }
  return all;
}

/// A given network must say itself what it is: it may be another than that of the selection.
void require_described(const std::string& path) {
  const Bytes file = read_file(path);
  if (is_script_archive(file) || !parse_weights(file, path).metadata)
    throw UserError(spelled(Setting::kAlso) + " " + path + ": the file does not say what it is; " +
                    spelled(Setting::kAlso) +
                    " takes checkpoints that sentinelnn wrote (train, prune, harden)");
}

/// The given networks.
void add_given(const Comm& comm, const Job& job, std::vector<NamedModel>& models) {
  for (const GivenNetwork& given : shared_given(comm, job)) {
    ModelSelection selection;
    selection.data = job.selection.data;
    selection.checkpoint = given.path;
    comm.from_root([&] {
      require_described(given.path);
      return Bytes();
    });
    NamedModel model = load_model(comm, selection);
    model.name = given.name;
    require_fitting(model, models, given.path);
    models.push_back(std::move(model));
  }
}

/// A model that a job made, from its file.
NamedModel read_made(const Comm& comm, const std::string& name, const std::string& path) {
  const Bytes recipe = comm.from_root([&] {
    if (!std::filesystem::exists(path))
      throw DataError(path,
                      "is missing: the network that the campaign made and injected; put it "
                      "there again");
    ByteWriter writer;
    writer.text(read_provenance(read_file(path), path).recipe);
    return writer.take();
  });
  ModelSelection selection;
  selection.checkpoint = path;
  NamedModel model = load_model(comm, selection);
  model.name = name;
  model.recipe = ByteReader(recipe, "recipe").text(recipe.size());
  return model;
}

/// Before hours of ranking and calibration.
void look_at_original(const Comm& comm, at::Device device, Built& built) {
  require_fault_free(comm, built.models[0], built.images, "images");
  comm.from_root([&] {
    built.warned = warn_if_guessing(built.models[0], built.images, device);
    return Bytes();
  });
}

/// The list of faults; null without. Notes in the job what it lists. The same on every rank.
std::shared_ptr<const FaultList> load_list(const Comm& comm, Job& job, const Graph& original,
                                           std::int64_t images) {
  const std::string& path = job.faults.list;
  if (path.empty()) return nullptr;
  const Bytes bytes = comm.from_root([&] { return read_fault_list(path); });
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  std::shared_ptr<const FaultList> list;
  comm.agree([&] {
    job.faults.lists_outputs = lists_outputs(text, original);
    const FaultSpace space(original, selection_of(job.faults));
    list = std::make_shared<const FaultList>(text, path, space, images);
  });
  return list;
}

void require_selection(const std::vector<NamedModel>& models, const Job& job) {
  std::vector<const Graph*> graphs;
  graphs.reserve(models.size());
  for (const NamedModel& model : models) graphs.push_back(&model.graph);
  Selection selection = selection_of(job.faults);
  selection.layers = job.faults.layers;  // as they were written, so that each is looked for
  require_selected(graphs, selection);
}

/// The original alone, and the images.
Built begin(const Comm& comm, Job& job) {
  std::vector<NamedModel> models;
  models.push_back(load_model(comm, job.selection));
  if (job.protect) {
    require_unprotected(models[0], job.selection.checkpoint);
    models[0].name = name_before_protection(models[0].graph, job.selection.checkpoint);
  }
  // The images first: a missing folder should not wait for the calibration.
  Dataset images =
      trial_images(comm, job.selection, models[0].graph.dataset, job.images_of, job.images);
  // Nor should a plan that this network does not allow.
  std::shared_ptr<const FaultList> list = load_list(comm, job, models[0].graph, images.size());
  const bool alone = made_networks(job).empty() && job.also.empty();
  comm.agree([&] {
    if (alone) require_selection(models, job);
    check_designs(points_of(job, list), models[0].graph, selection_of(job.faults), alone);
  });
  return {std::move(models), {}, std::move(images), std::move(list), false};
}

}  // namespace

bool needs_scores(const Job& job) {
  return job.pruning || (job.protect && duplicates(job.protection.hardening.duplication));
}

Built build(const Comm& comm, Job& job, at::Device device) {
  Built built = begin(comm, job);
  if (job.protect) look_at_original(comm, device, built);
  if (needs_scores(job))
    built.scores =
        channel_scores(comm, built.models[0], job.selection, job.protection.ranking, device);
  for (const MadeNetwork& made : made_networks(job)) {
    const bool protects_it = made.steps != "pruned";
    NamedModel model = protects_it ? harden_one(comm, job, device, built, made)
                                   : prune_original(comm, job, device, built, made.path);
    model.name = name_of_made(built, made);
    built.models.push_back(std::move(model));
  }
  add_given(comm, job, built.models);
  comm.agree([&] {
    require_selection(built.models, job);
    require_uncorrected(points_of(job, built.list), built.models, selection_of(job.faults));
  });
  return built;
}

Built reload(const Comm& comm, Job& job) {
  Built built = begin(comm, job);
  for (const MadeNetwork& made : made_networks(job))
    built.models.push_back(read_made(comm, name_of_made(built, made), made.path));
  add_given(comm, job, built.models);
  return built;
}

std::vector<std::string> made_paths(const Job& job) {
  std::vector<std::string> paths;
  for (const MadeNetwork& made : made_networks(job)) paths.push_back(made.path);
  return paths;
}

void write_made(const std::vector<std::string>& paths, std::vector<NamedModel>& models) {
  for (std::size_t k = 0; k < paths.size(); ++k)
    write_network(paths[k], std::exchange(models.at(k + 1).made, {}));
}

}  // namespace sentinel
