#include "transform/importance_methods.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "sentinel/core/bytes.hpp"
#include "sentinel/core/word_table.hpp"

namespace sentinel {
namespace {

struct MethodEntry {
  const char* name;
  std::unique_ptr<ImportanceMethod> (*make)();
  ScoreScale scale;
};
constexpr std::array kMethods = {
    MethodEntry{"l1-norm", make_l1_norm, ScoreScale::kLayer},
    MethodEntry{"l2-norm", make_l2_norm, ScoreScale::kLayer},
    MethodEntry{"vul-gain", make_vul_gain, ScoreScale::kChannel},
    MethodEntry{"salience", make_salience, ScoreScale::kChannel},
    MethodEntry{"deepvigor", make_deepvigor, ScoreScale::kFlip},
};

void require_finite(const std::string& method, const std::string& layer,
                    const std::vector<double>& scores) {
  const auto finite = [](double score) { return std::isfinite(score); };
  const auto wrong = std::find_if_not(scores.begin(), scores.end(), finite);
  if (wrong == scores.end()) return;
  throw DataError("importance " + method, "the score of channel " +
                                              std::to_string(wrong - scores.begin()) + " of " +
                                              layer + " is not finite; check the checkpoint");
}

}  // namespace

std::vector<std::string> importance_names() {
  std::vector<std::string> names;
  for (const auto& method : kMethods) names.emplace_back(method.name);
  names.emplace_back(kChannelFaults);
  return names;
}

ScoreScale score_scale(const std::string& method) {
  if (method == kChannelFaults) return ScoreScale::kFlip;
  for (const auto& own : kMethods)
    if (method == own.name) return own.scale;
  return ScoreScale::kLayer;
}

std::unique_ptr<ImportanceMethod> importance_method(const std::string& name) {
  for (const auto& method : kMethods) {
    if (name == method.name) return method.make();
  }
  if (name == kChannelFaults) throw Bug(name + " is a campaign, no method of one rank");
  throw UserError(unknown_word(spelled(Setting::kImportance), name, importance_names()));
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
    for (std::int64_t c = 0; c < out_channels_of(graph[id].op); ++c) {
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

}  // namespace sentinel
