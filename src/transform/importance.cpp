#include "sentinel/transform/importance.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "sentinel/core/error.hpp"

namespace sentinel {
namespace {

std::map<std::string, const ImportanceInfo*> layers_by_name(const RankingFile& ranking,
                                                            const std::string& path) {
  std::map<std::string, const ImportanceInfo*> layers;
  for (const auto& layer : ranking.layers) {
    if (!layers.emplace(layer.layer, &layer).second) {
      throw DataError(path, "layer " + layer.layer + " is ranked twice; rank the model again");
    }
  }
  return layers;
}

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const auto& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

}  // namespace

std::vector<std::int64_t> descending(const std::vector<double>& scores) {
  std::vector<std::int64_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
    const double left = scores[static_cast<std::size_t>(a)];
    const double right = scores[static_cast<std::size_t>(b)];
    if (std::isnan(left) || std::isnan(right)) return !std::isnan(left) && std::isnan(right);
    return left > right;
  });
  return order;
}

RankingFile to_ranking(const Graph& graph, const std::string& method, const ChannelScores& scores) {
  RankingFile ranking;
  ranking.method = method;
  ranking.architecture = graph.architecture;
  ranking.dataset = graph.dataset;
  for (const auto& layer : scores) {
    ranking.layers.push_back(
        {method, layer.layer, layer.scores, descending(layer.scores), layer.sample});
  }
  return ranking;
}

ChannelScores from_ranking(const Graph& graph, const RankingFile& ranking,
                           const std::string& path) {
  auto layers = layers_by_name(ranking, path);
  ChannelScores scores;
  std::vector<std::string> missing, unexpected;
  for (NodeId id = 0; id < graph.size(); ++id) {
    const Node& node = graph[id];
    if (!as_conv(node.op)) continue;
    const auto found = layers.find(node.name);
    if (found == layers.end()) {
      missing.push_back(node.name);
      continue;
    }
    const auto expected = static_cast<std::size_t>(out_channels_of(node.op));
    if (found->second->scores.size() != expected) {
      throw DataError(path, "layer " + node.name + " has " +
                                std::to_string(found->second->scores.size()) +
                                " scores, but the model has " + std::to_string(expected) +
                                " channels there; rank this model");
    }
    const std::vector<double>& own = found->second->scores;
    if (!std::all_of(own.begin(), own.end(), [](double score) { return std::isfinite(score); }))
      throw DataError(path,
                      "scores of layer " + node.name + " are NaN or Inf; rank the model again");
    scores.push_back({id, node.name, own, found->second->sample});
    layers.erase(found);
  }
  for (const auto& [name, layer] : layers) unexpected.push_back(name);
  if (missing.empty() && unexpected.empty()) return scores;
  throw DataError(
      path, "the ranking does not fit the model" +
                (missing.empty() ? std::string() : "; without scores: " + joined(missing)) +
                (unexpected.empty() ? std::string() : "; not in the model: " + joined(unexpected)) +
                "; rank this model");
}

}  // namespace sentinel
