#include "sentinel/networks/network.hpp"

#include <algorithm>
#include <filesystem>

namespace sentinel {
namespace {

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

std::string name_by(const std::string& steps, const Graph& graph, const std::string& path) {
  if (!steps.empty()) return steps;
  return is_of_our_families(graph) || path.empty() ? kUnprotected : name_of_file(path);
}

}  // namespace

std::string name_of_file(const std::string& path) {
  std::string name = std::filesystem::path(path).stem().string();
  std::replace_if(
      name.begin(), name.end(), [](char c) { return c == ',' || (c >= 0 && c < ' '); }, '_');
  return name.empty() || name == "." || name == ".." ? "network" : name;
}

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

}  // namespace sentinel
