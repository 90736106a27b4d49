#include "sentinel/campaign/recipe.hpp"

#include <fmt/format.h>

#include <filesystem>

#include "sentinel/campaign/protecting.hpp"
#include "sentinel/campaign/ranking.hpp"
#include "sentinel/campaign/validation.hpp"
#include "sentinel/core/hash.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/graph/profile.hpp"
#include "sentinel/networks/outputs.hpp"
#include "sentinel/networks/pruning.hpp"
#include "sentinel/networks/training_state.hpp"
#include "sentinel/transform/prune.hpp"

namespace sentinel {
namespace {

bool prunes(const Recipe& recipe) {
  return recipe.training &&
         (recipe.training->plan.ratio > 0 || !recipe.training->plan.ratios.empty());
}

bool copies(const Recipe& recipe) {
  return duplicates(recipe.protection.hardening.duplication);
}

ChannelScores l2_norm(const Graph& graph) {
  return importance_method("l2-norm")->score({graph});
}

/// Bounds take as much memory whatever they are.
Dataset grey_image(const std::string& dataset) {
  const DatasetInfo& info = dataset_info(dataset);
  const auto [channels, height, width] = info.shape;
  return Dataset(
      info, std::vector<std::uint8_t>(static_cast<std::size_t>(channels * height * width), 128),
      {0});
}

/// The network as it will be in shape; its bounds, and which channels went, will be others.
Graph shape_of(const Recipe& recipe, const Graph& original, const Dataset& grey) {
  Graph parent = original.clone();
  if (recipe.training) {
    parent = prune(original, l2_norm(original), recipe.training->plan);
    store_values(parent, recipe.training->finetune.store);
    require_named(recipe.training->finetune.store, parent);
  }
  return harden(parent, l2_norm(parent), recipe.protection.hardening, grey, Comm::local(),
                at::kCPU);
}

RecipeCost cost_of(const Recipe& recipe, const Graph& original, const Dataset& grey) {
  const ModelCost before = model_cost(original);
  RecipeCost cost;
  try {
    const ModelCost after = model_cost(shape_of(recipe, original, grey));
    cost.memory = static_cast<double>(after.stored_bits) / static_cast<double>(before.stored_bits);
    cost.macs = static_cast<double>(after.macs) / static_cast<double>(before.macs);
  } catch (const Error& error) {
    if (error.code() != ExitCode::kUsage) throw;
    cost.unfit = error.what();
  }
  return cost;
}

/// Everything that decides what is trained: what is trained alike is trained once.
std::string trained_path(const RecipePlace& place, const NamedModel& original,
                         const ModelSelection& selection, const Recipe& recipe) {
  const PruningJob& training = *recipe.training;
  const RankingJob& ranking = recipe.protection.ranking;
  const TrainOptions& o = training.finetune;
  std::string text = fmt::format(
      "{} of {} in {} for {}, by {} {} {} {}, {:.17g} group score {}, {} epochs of {} lr {:.17g} "
      "momentum {:.17g} decay {:.17g} augment {} seed {} by {}",
      original.sha256, selection.dataset, selection.data, original.graph.dataset,
      ranking.importance, ranking.file, ranking.images, ranking.seed, training.plan.ratio,
      training.plan.group_score == GroupScore::kMean ? "mean" : "first", training.finetune_epochs,
      o.batch_size, o.learning_rate, o.momentum, o.weight_decay, o.augment, o.seed,
      best_on_name(training.best_on));
  if (const auto& own = original.graph.normalisation)
    for (const auto& numbers : {own->mean, own->std})
      for (const double number : numbers) text += fmt::format(" {:.17g}", number);
  for (const auto& [layer, ratio] : training.plan.ratios)
    text += fmt::format(" {}={:.17g}", layer, ratio);
  for (const StoreRule& rule : o.store) text += " " + rule.text;
  return (std::filesystem::path(place.folder) /
          ("trained-" + sha256_hex(text).substr(0, 12) + ".pth"))
      .string();
}

void write_made(const Comm& comm, const std::string& path, const NamedModel& model) {
  comm.from_root([&] {
    write_network(path, model.made);
    return Bytes();
  });
}

NamedModel train_parent(const Comm& comm, const NamedModel& original,
                        const ModelSelection& selection, const Recipe& recipe,
                        const RecipePlace& place, at::Device device) {
  const std::string path = trained_path(place, original, selection, recipe);
  const ChannelScores scores =
      prunes(recipe) ? channel_scores(comm, original, selection, recipe.protection.ranking, device)
                     : l2_norm(original.graph);
  NamedModel trained = make_pruned(comm, original, selection, scores, *recipe.training, device,
                                   place.command, state_beside(path), path);
  write_made(comm, path, trained);
  return trained;
}

NamedModel copy_of(const NamedModel& model) {
  return {model.name, model.graph.clone(), model.sha256, model.file_sha256, model.recipe,
          {},         model.file,          model.notes};
}

}  // namespace

void validate(const Recipe& recipe) {
  validate(recipe.protection);
  if (recipe.protection.hardening.duplication.overhead)
    throw UserError(spelled(Setting::kOverhead) +
                    " chooses by scores, so that the costs are not known before; give " +
                    spelled(Setting::kHardeningRatio));
  if (recipe.training) validate(*recipe.training);
  if (recipe.training && recipe.training->best_on == BestOn::kTest)
    throw UserError(spelled(Setting::kSelect) +
                    " test would choose by the images that confirm; leave it out");
  if (!protects(recipe.protection.hardening) && !recipe.training)
    throw UserError("protects nothing");
}

bool needs_training_images(const Recipe& recipe) {
  const HardeningPlan& plan = recipe.protection.hardening;
  return (recipe.training && recipe.training->finetune_epochs > 0) || plan.restricted ||
         (copies(recipe) && plan.duplication.correction == Correction::kRange) ||
         ((copies(recipe) || prunes(recipe)) && ranks_by_images(recipe.protection.ranking));
}

std::vector<RecipeCost> recipe_costs(const Comm& comm, const NamedModel& original,
                                     const std::string& dataset,
                                     const std::vector<Recipe>& recipes) {
  const Bytes bytes = comm.from_root([&] {
    ByteWriter writer;
    const Dataset grey = grey_image(dataset);
    for (const Recipe& recipe : recipes) {
      const RecipeCost cost = cost_of(recipe, original.graph, grey);
      writer.write(cost.memory);
      writer.write(cost.macs);
      writer.vector(std::vector<char>(cost.unfit.begin(), cost.unfit.end()));
    }
    return writer.take();
  });
  ByteReader reader(bytes, "costs of recipes");
  std::vector<RecipeCost> costs(recipes.size());
  for (RecipeCost& cost : costs) {
    cost.memory = reader.read<double>();
    cost.macs = reader.read<double>();
    const auto unfit = read_vector<char>(reader);
    cost.unfit = {unfit.begin(), unfit.end()};
  }
  return costs;
}

std::string path_of(const RecipePlace& place, const Recipe& recipe) {
  return (std::filesystem::path(place.folder) / (recipe.name + ".pth")).string();
}

std::vector<Output> recipe_outputs(const RecipePlace& place, const NamedModel& original,
                                   const ModelSelection& selection, const Recipe& recipe) {
  std::vector<Output> outputs = {{path_of(place, recipe), FileKind::kCheckpoint}};
  if (trains_bounds(recipe.protection.hardening.search))
    outputs.push_back({state_beside(outputs[0].path), FileKind::kTrainingState});
  if (!recipe.training) return outputs;
  const std::string path = trained_path(place, original, selection, recipe);
  outputs.push_back({path, FileKind::kCheckpoint});
  outputs.push_back({state_beside(path), FileKind::kTrainingState});
  return outputs;
}

void make_recipe(const Comm& comm, const NamedModel& original, const ModelSelection& selection,
                 const Recipe& recipe, const RecipePlace& place, at::Device device) {
  const std::string path = path_of(place, recipe);
  const NamedModel parent = recipe.training
                                ? train_parent(comm, original, selection, recipe, place, device)
                                : copy_of(original);
  if (!protects(recipe.protection.hardening)) return write_made(comm, path, parent);
  ProtectionJob job = recipe.protection;
  job.command = place.command;
  if (prunes(recipe)) job.ranking.channel_faults.output += ".pruned.h5";  // of another network
  ChannelScores scores;
  if (copies(recipe)) {
    note_method(comm, job);
    scores = channel_scores(comm, parent, selection, job.ranking, device);
  }
  const NamedModel made = make_protected(comm, parent, selection, scores, job, device, path, path);
  write_made(comm, path, made);
}

}  // namespace sentinel
