#include "networks/seed_checkpoint.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "sentinel/core/error.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/core/word_table.hpp"
#include "sentinel/graph/profile.hpp"
#include "sentinel/graph/rules.hpp"
#include "sentinel/models/model.hpp"
#include "sentinel/transform/harden.hpp"

namespace sentinel {
namespace {

void check_ratio(Setting setting, double ratio) {
  if (!(ratio > 0 && ratio < 1))
    throw UserError(fmt::format("{} {} lies outside (0, 1)", spelled(setting), ratio));
}

/// The widths against those of the whole architecture.
void check_pruning(const Graph& graph, double ratio) {
  check_ratio(Setting::kPruningRatio, ratio);
  const auto known = model_names();
  if (std::find(known.begin(), known.end(), graph.architecture) == known.end())
    throw UserError(spelled(Setting::kPruningRatio) + ": the seed tool prunes no " +
                    graph.architecture + "; leave the option out");
  const auto whole = conv_channels(initial_model(graph.architecture, class_count(graph), 0));
  for (const auto& [layer, channels] : conv_channels(graph)) {
    const auto before = whole.find(layer);
    if (before == whole.end()) continue;
    const std::int64_t expected = before->second - share_of(before->second, ratio);
    if (channels != expected)
      throw UserError(
          fmt::format("{} {}: layer {} has {} channels, not {}; give the ratio it was pruned with",
                      spelled(Setting::kPruningRatio), ratio, layer, channels, expected));
  }
}

void check_copies(const Graph& graph, double ratio) {
  check_ratio(Setting::kHardeningRatio, ratio);
  const auto channels = channel_counts(graph);
  for (NodeId id = 0; id < graph.size(); ++id) {
    if (!as_conv(graph[id].op)) continue;
    const auto* twice = std::get_if<DuplicatedConv>(&graph[id].op);
    const auto copies = static_cast<std::int64_t>(twice ? twice->duplicated.size() : 0);
    const std::int64_t expected = duplicate_count(channels[static_cast<std::size_t>(id)], ratio);
    if (copies != expected)
      throw UserError(fmt::format(
          "{} {}: layer {} has {} duplicated channels, not {}; give the ratio it was hardened with",
          spelled(Setting::kHardeningRatio), ratio, graph[id].name, copies, expected));
  }
}

void check_clipping(const Graph& graph, Clipping clipping) {
  for (const Node& node : graph.nodes()) {
    const auto* relu = std::get_if<BoundedActivation>(&node.op);
    if (relu && relu->clipping != clipping)
      throw UserError(spelled(Setting::kClipping) + " " + rules::clipping_name(clipping) +
                      ": the checkpoint was made with " + rules::clipping_name(relu->clipping) +
                      "; leave the option out");
  }
}

}  // namespace

Clipping parse_clipping(const std::string& word) {
  std::vector<std::string> known;
  for (const auto& [clipping, name] : rules::kClippings) {
    if (word == name) return clipping;
    known.emplace_back(name);
  }
  throw UserError(unknown_word(spelled(Setting::kClipping), word, known));
}

void check_seed_options(const Graph& graph, const ModelSelection& selection) {
  if (selection.pruning_ratio) check_pruning(graph, *selection.pruning_ratio);
  if (selection.hardening_ratio) check_copies(graph, *selection.hardening_ratio);
  if (selection.clipping) check_clipping(graph, *selection.clipping);
}

}  // namespace sentinel
