#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "sentinel/campaign/recipe.hpp"

namespace sentinel {

/// The recipes that `protect` chooses from, as a file for --recipes would hold them.
std::string_view built_in_recipes();

/// Published methods that search or train bounds for so long that only --method takes them.
std::string_view long_recipes();

/// The names of both.
std::vector<std::string> method_names();

/// At most so many.
constexpr std::size_t kMostRecipes = 24;

/// One recipe per table of a TOML text, in their order; its keys are options of `harden` and
/// `prune`, and train-store. Nothing is done that no key asks for: the ratios are 0, no activation
/// is bounded, nothing is fine-tuned. UserError naming file and line, also for recipes that
/// contradict themselves.
std::vector<Recipe> parse_recipes(const std::string& source, std::string_view text);

}  // namespace sentinel
