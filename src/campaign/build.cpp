#include "campaign/build.hpp"

#include <filesystem>

#include "campaign/describe.hpp"
#include "campaign/sampling.hpp"
#include "sentinel/core/file.hpp"
#include "sentinel/models/model.hpp"

namespace sentinel {
namespace {

std::string hardened_path(const Job& job) {
  return job.hardened_output.empty() ? job.output + ".hardened.pth" : job.hardened_output;
}

std::string pruned_path(const Job& job) {
  return job.output + ".pruned.pth";
}

bool needs_scores(const Job& job) {
  return job.pruning || (job.protect && job.protection.hardening.duplication.ratio > 0);
}

void require_unprotected(const NamedModel& model, const std::string& path) {
  if (model.name == "unprotected") return;
  throw SharedError(ExitCode::kUsage,
                    path +
                        ": this network is protected already; campaign starts from an unprotected "
                        "one (use inject)");
}

/// Prunes and fine-tunes the original.
void add_pruned(const Comm& comm, const Job& job, at::Device device, Built& built) {
  const std::string path = pruned_path(job);
  built.models.push_back(make_pruned(comm, built.models[0], job.selection, built.scores,
                                     *job.pruning, device, job.command, path + ".training",
                                     job.fresh ? "" : path));
  // At once, where nothing is overwritten: what follows may fail, and fine-tuning was long.
  comm.from_root([&] {
    if (!std::filesystem::exists(path)) write_file_atomic(path, built.models.back().made);
    return Bytes();
  });
}

/// Hardens the original, or the pruned network, which is ranked anew.
void add_hardened(const Comm& comm, const Job& job, at::Device device, Built& built) {
  const NamedModel& base = built.models.back();
  ChannelScores again;
  if (job.pruning && job.protection.hardening.duplication.ratio > 0) {
    RankingJob ranking = job.protection.ranking;
    ranking.file.clear();  // it ranks the original
    ranking.channel_faults.output += ".pruned.h5";
    again = channel_scores(comm, base, job.selection, ranking, device);
  }
  const ChannelScores& scores = job.pruning ? again : built.scores;
  built.models.push_back(make_hardened(comm, base, job.selection, scores, job.protection, device,
                                       job.command, job.fresh ? "" : hardened_path(job)));
}

void require_fitting(const NamedModel& model, const std::vector<NamedModel>& others,
                     const std::string& path) {
  for (const NamedModel& other : others)
    if (other.name == model.name)
      throw SharedError(ExitCode::kUsage, "--also " + path + ": there is a model named '" +
                                              model.name + "' already; rename the file");
  const Graph& original = others[0].graph;
  if (model.graph.architecture != original.architecture ||
      class_count(model.graph) != class_count(original))
    throw SharedError(ExitCode::kUsage, "--also " + path + ": this is a " +
                                            model.graph.architecture + ", not made from the " +
                                            original.architecture + " of --checkpoint");
}

/// The models of --also, named after their files.
void add_given(const Comm& comm, const Job& job, std::vector<NamedModel>& models) {
  for (const std::string& path : job.also) {
    ModelSelection selection;
    selection.data = job.selection.data;
    selection.checkpoint = path;
    NamedModel model = load_model(comm, selection);
    model.name = std::filesystem::path(path).stem().string();
    require_fitting(model, models, path);
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

/// The original alone, and the images.
Built begin(const Comm& comm, const Job& job) {
  std::vector<NamedModel> models;
  models.push_back(load_model(comm, job.selection));
  if (job.protect) require_unprotected(models[0], job.selection.checkpoint);
  // The images first: a missing folder should not wait for the calibration.
  Dataset images =
      load_dataset(comm, job.selection, models[0].graph.dataset, Split::kTest, job.images);
  // Nor should a plan that this network does not allow.
  comm.agree([&] { check_designs(points_of(job), models[0].graph); });
  return {std::move(models), {}, std::move(images)};
}

}  // namespace

Built build(const Comm& comm, const Job& job, at::Device device) {
  Built built = begin(comm, job);
  if (needs_scores(job))
    built.scores =
        channel_scores(comm, built.models[0], job.selection, job.protection.ranking, device);
  if (job.pruning) add_pruned(comm, job, device, built);
  if (job.protect && protects(job.protection.hardening)) add_hardened(comm, job, device, built);
  add_given(comm, job, built.models);
  return built;
}

Built reload(const Comm& comm, const Job& job) {
  Built built = begin(comm, job);
  if (job.pruning) built.models.push_back(read_made(comm, "pruned", pruned_path(job)));
  if (job.protect && protects(job.protection.hardening))
    built.models.push_back(read_made(comm, "hardened", hardened_path(job)));
  add_given(comm, job, built.models);
  return built;
}

std::vector<std::string> made_paths(const Job& job) {
  std::vector<std::string> paths;
  if (job.pruning) paths.push_back(pruned_path(job));
  if (job.protect && protects(job.protection.hardening)) paths.push_back(hardened_path(job));
  return paths;
}

void write_made(const Job& job, const std::vector<NamedModel>& models) {
  for (const NamedModel& model : models) {
    if (model.made.empty()) continue;
    write_file_atomic(model.name == "pruned" ? pruned_path(job) : hardened_path(job), model.made);
  }
}

}  // namespace sentinel
