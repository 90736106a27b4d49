#include "sentinel/protect/importance.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <numeric>

#include "protect/importance_methods.hpp"
#include "sentinel/core/bytes.hpp"
#include "sentinel/core/error.hpp"

namespace sentinel {
namespace {

struct MethodEntry {
  const char* name;
  std::unique_ptr<ImportanceMethod> (*make)();
};
constexpr std::array kMethods = {
    MethodEntry{"l1-norm", make_l1_norm},     MethodEntry{"l2-norm", make_l2_norm},
    MethodEntry{"vul-gain", make_vul_gain},   MethodEntry{"salience", make_salience},
    MethodEntry{"deepvigor", make_deepvigor},
};

std::int64_t channels_of(const Op& op) {
  if (const auto* duplicated = std::get_if<DuplicatedConv>(&op)) return duplicated->out_channels();
  const Conv* conv = as_conv(op);
  return conv ? conv->weight.size(0) : 0;
}

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

void require_finite(const std::string& method, const std::string& layer,
                    const std::vector<double>& scores) {
  const auto finite = [](double score) { return std::isfinite(score); };
  const auto wrong = std::find_if_not(scores.begin(), scores.end(), finite);
  if (wrong == scores.end()) return;
  throw DataError("importance " + method, "the score of channel " +
                                              std::to_string(wrong - scores.begin()) + " of " +
                                              layer + " is not finite; check the checkpoint");
}

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const auto& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

}  // namespace

std::vector<std::string> importance_names() {
  std::vector<std::string> names;
  for (const auto& method : kMethods) names.emplace_back(method.name);
  names.emplace_back(kChannelFaults);
  return names;
}

std::unique_ptr<ImportanceMethod> importance_method(const std::string& name) {
  for (const auto& method : kMethods) {
    if (name == method.name) return method.make();
  }
  if (name == kChannelFaults) throw Bug(name + " is a campaign, no method of one rank");
  throw UserError("unknown importance method '" + name + "'; choose one of " +
                  joined(importance_names()));
}

ChannelScores score_filters(const Graph& graph,
                            const std::function<double(const float*, std::int64_t)>& score) {
  ChannelScores all;
  for (NodeId id = 0; id < graph.size(); ++id) {
    const Conv* conv = as_conv(graph[id].op);
    if (!conv) continue;
    const at::Tensor weight = conv->weight.detach().to(at::kCPU, at::kFloat).contiguous();
    const std::int64_t count = weight.numel() / weight.size(0);
    LayerScores layer{id, graph[id].name, {}};
    for (std::int64_t c = 0; c < channels_of(graph[id].op); ++c) {
      layer.scores.push_back(score(weight.data_ptr<float>() + c * count, count));
    }
    all.push_back(std::move(layer));
  }
  return all;
}

std::vector<NodeId> convolutions(const Graph& graph) {
  std::vector<NodeId> nodes;
  for (NodeId id = 0; id < graph.size(); ++id) {
    if (as_conv(graph[id].op)) nodes.push_back(id);
  }
  return nodes;
}

ChannelScores scores_of_root(const Comm& comm, const Graph& graph, const std::string& method,
                             const std::function<std::vector<std::vector<double>>()>& compute) {
  const std::vector<NodeId> nodes = convolutions(graph);
  const Bytes bytes = comm.from_root([&] {
    const auto layers = compute();
    ByteWriter writer;
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      require_finite(method, graph[nodes[i]].name, layers.at(i));
      writer.vector(layers[i]);
    }
    return writer.take();
  });
  ByteReader reader(bytes, "channel scores");
  ChannelScores scores;
  for (const NodeId node : nodes) {
    scores.push_back({node, graph[node].name, read_vector<double>(reader)});
  }
  return scores;
}

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
    const auto expected = static_cast<std::size_t>(channels_of(node.op));
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
