#include "campaign/names.hpp"

#include <algorithm>
#include <array>
#include <filesystem>
#include <set>

#include "sentinel/campaign/setup.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/models/model.hpp"

namespace sentinel {
namespace {

constexpr std::size_t kLongestName = 40;
constexpr const char* kUnprotected = "unprotected";

bool is_pruned(const Graph& graph) {
  for (const auto& [layer, channels] : graph.origin) {
    const auto& out = channels.out;
    const auto largest = std::max_element(out.begin(), out.end());
    if (largest != out.end() && *largest >= static_cast<std::int64_t>(out.size())) return true;
  }
  return is_narrowed(graph);
}

bool is_of_our_families(const Graph& graph) {
  const auto known = model_names();
  return std::find(known.begin(), known.end(), graph.architecture) != known.end();
}

/// By duplication or bounds of activations.
bool is_hardened(const Graph& graph) {
  return std::any_of(graph.nodes().begin(), graph.nodes().end(), [](const Node& node) {
    return std::holds_alternative<DuplicatedConv>(node.op) ||
           std::holds_alternative<BoundedActivation>(node.op);
  });
}

/// Names become parts of the result file's paths and lists.
std::string name_of_file(const std::string& path) {
  std::string name = std::filesystem::path(path).stem().string();
  std::replace_if(
      name.begin(), name.end(), [](char c) { return c == ',' || (c >= 0 && c < ' '); }, '_');
  return name.empty() || name == "." || name == ".." ? "network" : name;
}

/// Letters, digits and _ . + -, a letter or digit first.
bool is_plain(const std::string& name) {
  constexpr auto kFirst = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
  const std::string rest = std::string(kFirst) + "_.+-";
  return !name.empty() && name.size() <= kLongestName &&
         std::string(kFirst).find(name[0]) != std::string::npos &&
         name.find_first_not_of(rest) == std::string::npos;
}

bool is_taken(const std::string& name) {
  if (name == kUnprotected || name == "pruned") return true;
  for (const std::string step :
       {"hardened", "bounded", "stored", "hardened+stored", "bounded+stored"})
    if (name == step || name == "pruned+" + step) return true;
  return false;
}

GivenNetwork given_network(const std::string& text) {
  std::error_code none;
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos || std::filesystem::exists(text, none))
    return {name_of_file(text), text};
  const std::string name = text.substr(0, equals), path = text.substr(equals + 1);
  if (!is_plain(name) || path.empty())
    throw UserError("--also " + text +
                    ": there is no such file, and it is no NAME=FILE; a name "
                    "has at most " +
                    std::to_string(kLongestName) +
                    " letters, digits and _ . + -, a letter or digit first");
  if (is_taken(name))
    throw UserError("--also " + text + ": networks that the campaign makes are called '" + name +
                    "'; choose another name");
  return {name, path};
}

std::string name_by(const std::string& steps, const Graph& graph, const std::string& path) {
  if (!steps.empty()) return steps;
  return is_of_our_families(graph) || path.empty() ? kUnprotected : name_of_file(path);
}

std::string path_of(const Job& job, const std::string& steps) {
  const std::string path = job.output + "." + steps + ".pth";
  // Earlier versions called every protected network hardened; their campaigns go on with it.
  const std::string former = job.output + ".hardened.pth";
  const bool old = !job.fresh && !job.all_combinations && !std::filesystem::exists(path) &&
                   std::filesystem::exists(former) && std::filesystem::exists(job.output);
  return old ? former : path;
}

}  // namespace

std::string joined_steps(const std::string& first, const std::string& then) {
  return first.empty() || then.empty() ? first + then : first + "+" + then;
}

std::string steps_of(const Graph& graph) {
  const bool hardened = is_hardened(graph);
  const std::string protection = hardened ? "hardened" : has_weight_bounds(graph) ? "bounded" : "";
  const std::string stored = graph.storage.empty() ? "" : "stored";
  return joined_steps(is_pruned(graph) ? "pruned" : "", joined_steps(protection, stored));
}

std::string name_of(const Graph& graph, const std::string& path) {
  return name_by(steps_of(graph), graph, path);
}

std::optional<std::string> steps_before_protection(const Graph& graph) {
  const bool coded = std::any_of(graph.storage.begin(), graph.storage.end(), [](const auto& entry) {
    return entry.second.layout.code.has_value();
  });
  if (coded || is_hardened(graph) || has_weight_bounds(graph)) return std::nullopt;
  return is_pruned(graph) ? "pruned" : "";
}

std::string name_before_protection(const Graph& graph, const std::string& path) {
  return name_by(steps_before_protection(graph).value_or(""), graph, path);
}

std::string source_of(const NamedModel& model) {
  return model.file.empty() ? "network '" + model.name + "'" : model.file;
}

std::string title_of(const NamedModel& model) {
  const std::string steps = steps_of(model.graph);
  const std::string file = std::filesystem::path(model.file).filename().string();
  const bool by_file = !file.empty() && !is_of_our_families(model.graph);
  const std::string& own = by_file ? file : model.graph.architecture;
  return steps.empty() ? own : own + " (" + steps + ")";
}

std::vector<MadeNetwork> made_networks(const Job& job) {
  std::vector<MadeNetwork> made;
  if (job.pruning) made.push_back({"pruned", job.output + ".pruned.pth"});
  const HardeningPlan& plan = job.protection.hardening;
  if (!job.protect || !protects(plan)) return made;
  const bool hardens = plan.duplication.ratio > 0 || plan.restricted;
  const std::string step = joined_steps(hardens              ? "hardened"
                                        : plan.weight_bounds ? "bounded"
                                                             : "",
                                        plan.store.empty() ? "" : "stored");
  const auto add = [&](const std::string& steps, bool of_pruned) {
    const bool named = !job.hardened_output.empty();
    made.push_back({steps, named ? job.hardened_output : path_of(job, steps), of_pruned});
  };
  if (!job.pruning || job.all_combinations) add(step, false);
  if (job.pruning) add(joined_steps("pruned", step), true);
  return made;
}

std::vector<GivenNetwork> given_networks(const Job& job) {
  std::vector<GivenNetwork> given;
  std::set<std::string> names;
  for (const std::string& text : job.also) {
    given.push_back(given_network(text));
    if (!names.insert(given.back().name).second)
      throw UserError("--also " + text + ": there is a model named '" + given.back().name +
                      "' already; give another name by --also NAME=FILE");
  }
  return given;
}

}  // namespace sentinel
