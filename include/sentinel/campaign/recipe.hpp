#pragma once
#include <optional>
#include <string>
#include <vector>

#include "sentinel/campaign/job.hpp"
#include "sentinel/comm/comm.hpp"
#include "sentinel/networks/network.hpp"
#include "sentinel/networks/outputs.hpp"

namespace sentinel {

/// A way to protect a network: what is done to it before, and how it is hardened.
struct Recipe {
  std::string name;                    // as no_network_name() wants it
  std::string options;                 // as a user wrote them
  std::optional<PruningJob> training;  // pruned or fine-tuned, or both
  ProtectionJob protection;
};
/// UserError where its options contradict each other, or it protects nothing.
void validate(const Recipe& recipe);
/// Whether making it looks at training images.
bool needs_training_images(const Recipe& recipe);

/// What a recipe's network costs, relative to the original.
struct RecipeCost {
  double memory = 0;  // of all stored bits
  double macs = 0;
  std::string unfit;  // why the recipe cannot be made of this network; empty: it can
};
/// By recipe, from shapes: no image is read, nothing is trained. Collective.
std::vector<RecipeCost> recipe_costs(const Comm& comm, const NamedModel& original,
                                     const std::string& dataset,
                                     const std::vector<Recipe>& recipes);

/// Where a recipe's network is kept.
struct RecipePlace {
  std::string folder;   // what is trained is kept there too, by the hash of parent and options
  std::string command;  // for its provenance
};
std::string path_of(const RecipePlace& place, const Recipe& recipe);
/// The networks that make_recipe writes, and the states of their training.
std::vector<Output> recipe_outputs(const RecipePlace& place, const NamedModel& original,
                                   const ModelSelection& selection, const Recipe& recipe);
/// Makes the recipe's network and writes it, unless an earlier call did. Collective; SharedErrors,
/// also with stop_code() where a stop was asked for in its training, with which the next call goes
/// on.
void make_recipe(const Comm& comm, const NamedModel& original, const ModelSelection& selection,
                 const Recipe& recipe, const RecipePlace& place, at::Device device);

}  // namespace sentinel
