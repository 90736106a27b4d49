#include "app/recipe_table.hpp"

#include <fmt/format.h>

#include "app/command.hpp"
#include "app/options.hpp"
#include "sentinel/core/error.hpp"

namespace sentinel {
namespace {

constexpr std::string_view kRecipes = R"(
# Few bits and long codes, by what they bear. Batch norm is folded, so that two words a channel are
# left beside the weights. The first two are fine-tuned as they will be stored.
[int4-bch8]
finetune-epochs = 3
train-store = ["weight=int4"]
fold-batch-norm = true
store = ["weight=int4+bch:8,4", "bias,scale=fp16+repeat:7"]
[int5-bch16]
finetune-epochs = 3
train-store = ["weight=int5"]
fold-batch-norm = true
store = ["weight=int5+bch:16,5", "bias,scale=fp16+repeat:15"]
[int6-bch32]
fold-batch-norm = true
store = ["weight=int6+bch:32,6", "bias,scale=fp16+repeat:31"]

# More bits of the weight, weaker codes.
[int7-bch16]
fold-batch-norm = true
store = ["weight=int7+bch:16,7", "bias,scale=fp16+repeat:7"]
[int11-bch16]
fold-batch-norm = true
store = ["weight=int11+bch:16,11", "bias,scale=fp16+repeat:5"]
[int11-bch32]
fold-batch-norm = true
store = ["weight=int11+bch:32,11", "bias,scale=fp16+repeat:15"]
[int8-repeat3]
fold-batch-norm = true
store = ["weight=int8+repeat:3", "bias,scale=fp16+repeat:7"]

# Low rates: the cheapest forms.
[int8]
fold-batch-norm = true
store = ["weight=int8", "bias,scale=fp16+repeat:3"]
[int8-secded]
fold-batch-norm = true
store = ["weight=int8+secded:64", "bias,scale=fp16+repeat:3"]
[int8-spw]
fold-batch-norm = true
store = ["weight=int8+spw", "bias,scale=fp16+repeat:5"]
[fp16-bounds]
weight-bounds = "layer"
store = ["weight,bias,bn,bound=fp16"]

# What was published. The words of --method.
[seed]
hardening-ratio = 0.1
selection = "group"
correction = "min"
group-score = "first"
clipping = "ranger"
[ranger]
clipping = "ranger"
[mset]
store = ["weight=fp32+mset"]
[cep]
store = ["weight=fp32+cep:d3"]
[secded]
store = ["weight=fp32+secded:64"]
[zero-space]
store = ["weight=int7+zero-space"]

# Bounds alone: nothing is stored otherwise.
[weight-bounds]
weight-bounds = "layer"
[bounds]
weight-bounds = "layer"
clipping = "ranger"
)";

constexpr std::string_view kLongRecipes = R"(
[ftclip]
clipping = "ranger"
bound-search = "ftclip"
[fitact]
clipping = "smooth"
bounds = "neuron"
bound-search = "fitact"
[proact]
clipping = "smooth"
bound-search = "proact"
)";

/// What a recipe's keys say.
struct RecipeOptions {
  ProtectionOptions protection;
  PruningOptions pruning;
  std::vector<std::string> train_store;
};

CLI::App* add_recipe(CLI::App& root, const std::string& name, RecipeOptions& options) {
  CLI::App* app = root.add_subcommand(name);
  options.protection.ratio = 0;
  options.protection.clipping = "none";
  options.pruning.job.finetune_epochs = 0;
  add_protection(*app, options.protection);
  add_pruning(*app, options.pruning);
  add_whole(*app, "--finetune-seed", options.pruning.job.finetune.seed, "");
  app->add_option("--train-store", options.train_store, "");
  return app;
}

/// The options that were given, as they would be typed.
std::string typed(const CLI::App& app) {
  std::string text;
  for (const CLI::Option* option : app.get_options())
    for (const std::string& value : option->results()) {
      const bool flag = option->get_expected_min() == 0 && value == "true";
      text += fmt::format("{}{}{}", text.empty() ? "" : " ", option->get_name(),
                          flag ? "" : " " + value);
    }
  return text;
}

Recipe recipe_of(const std::string& name, const CLI::App& app, const RecipeOptions& options) {
  Recipe recipe{name, typed(app), {}, protection_job(options.protection)};
  PruningJob training = pruning_job(options.pruning);
  training.plan.group_score = group_score_of(options.protection.group_score);
  training.finetune.store = store_rules(options.train_store);
  if (!training.finetune.store.empty() && training.finetune_epochs == 0)
    throw UserError("train-store needs finetune-epochs");
  const bool prunes = training.plan.ratio != 0 || !training.plan.ratios.empty();
  if (prunes || training.finetune_epochs != 0) recipe.training = training;
  if (!recipe.protection.ranking.file.empty())
    throw UserError("ranking names a file of one network; give importance");
  validate(recipe);
  return recipe;
}

constexpr const char* kHelps = "`sentinelnn harden --help` or `sentinelnn prune --help`";

Recipe parse_recipe(const std::string& source, std::string_view text, const std::string& name,
                    CLI::App& root, CLI::App& app, const RecipeOptions& options) {
  apply_job_text(source, text, root, app, kHelps);  // its errors name the line
  try {
    return recipe_of(name, app, options);
  } catch (const UserError& error) {
    throw UserError(source + ": recipe " + name + ": " + error.what());
  }
}

}  // namespace

std::string_view built_in_recipes() {
  return kRecipes;
}

std::string_view long_recipes() {
  return kLongRecipes;
}

std::vector<std::string> method_names() {
  std::vector<std::string> names = tables_of("built-in recipes", kRecipes);
  for (std::string& name : tables_of("long recipes", kLongRecipes))
    names.push_back(std::move(name));
  return names;
}

std::vector<Recipe> parse_recipes(const std::string& source, std::string_view text) {
  const std::vector<std::string> names = tables_of(source, text);
  if (names.empty()) throw UserError(source + ": holds no recipe");
  if (names.size() > kMostRecipes)
    throw UserError(fmt::format("{}: holds {} recipes; a race has {} at most", source, names.size(),
                                kMostRecipes));
  CLI::App root;
  std::vector<RecipeOptions> options(names.size());
  std::vector<CLI::App*> apps;
  for (std::size_t i = 0; i < names.size(); ++i) {
    const std::string wrong = no_network_name(names[i]);
    if (!wrong.empty()) throw UserError(source + ": recipe '" + names[i] + "': " + wrong);
    apps.push_back(add_recipe(root, names[i], options[i]));
  }
  std::vector<Recipe> recipes;
  for (std::size_t i = 0; i < names.size(); ++i) {
    recipes.push_back(parse_recipe(source, text, names[i], root, *apps[i], options[i]));
    for (std::size_t k = 0; k < i; ++k)
      if (recipes[k].options == recipes[i].options)
        throw UserError(source + ": recipes " + names[k] + " and " + names[i] +
                        " are the same; leave one out");
  }
  return recipes;
}

}  // namespace sentinel
