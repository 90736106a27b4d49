#include "sentinel/transform/overhead.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "sentinel/core/error.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/graph/profile.hpp"

namespace sentinel {
namespace {

struct Candidate {
  std::size_t layer;  // in the scores
  std::int64_t cost;
};

std::int64_t weights_of_filter(const Conv& conv) {
  return conv.weight.numel() / conv.weight.size(0);
}

/// Parameters, or MACs with an output of this shape, of one channel.
std::int64_t cost_of_channel(const Conv& conv, OverheadOf of,
                             const std::vector<std::int64_t>& shape) {
  switch (of) {
    case OverheadOf::kParameters:
      return weights_of_filter(conv) + (conv.bias.defined() ? 1 : 0);
    case OverheadOf::kMacs:
      return weights_of_filter(conv) * shape.at(1) * shape.at(2);
  }
  throw Bug("unknown kind of overhead");
}

double benefit(double score, const Conv& conv, ScoreScale scale) {
  return scale == ScoreScale::kFlip ? score * static_cast<double>(weights_of_filter(conv)) : score;
}

}  // namespace

std::vector<std::int64_t> copies_within(const Overhead& overhead, const Graph& graph,
                                        const ChannelScores& scores) {
  const auto shapes = output_shapes(graph);
  std::vector<Candidate> candidates;
  std::vector<double> per_cost;
  for (std::size_t k = 0; k < scores.size(); ++k) {
    const Conv& conv = *as_conv(graph[scores[k].node].op);
    const std::int64_t cost =
        cost_of_channel(conv, overhead.of, shapes[static_cast<std::size_t>(scores[k].node)]);
    for (const double score : scores[k].scores) {
      candidates.push_back({k, cost});
      per_cost.push_back(benefit(score, conv, overhead.scale) / static_cast<double>(cost));
    }
  }
  const double whole = static_cast<double>(cost_of(graph, overhead.of));
  const double budget = overhead.share * whole;
  std::int64_t used = 0;
  std::vector<std::int64_t> counts(scores.size(), 0);
  for (const std::int64_t i : descending(per_cost)) {
    const Candidate& next = candidates[static_cast<std::size_t>(i)];
    if (static_cast<double>(used + next.cost) > budget) continue;
    used += next.cost;
    ++counts[next.layer];
  }
  if (used > 0 || candidates.empty()) return counts;
  const auto cheapest =
      std::min_element(candidates.begin(), candidates.end(),
                       [](const Candidate& a, const Candidate& b) { return a.cost < b.cost; });
  throw UserError(fmt::format("{} {:g} is too little for any channel; the cheapest adds {:.2g}",
                              spelled(Setting::kOverhead), overhead.share,
                              static_cast<double>(cheapest->cost) / whole));
}

std::int64_t cost_of_copies(const Graph& hardened, OverheadOf of) {
  const auto shapes = output_shapes(hardened);
  std::int64_t cost = 0;
  for (NodeId id = 0; id < hardened.size(); ++id)
    if (const auto* twice = std::get_if<DuplicatedConv>(&hardened[id].op))
      cost += static_cast<std::int64_t>(twice->duplicated.size()) *
              cost_of_channel(twice->conv, of, shapes[static_cast<std::size_t>(id)]);
  return cost;
}

std::int64_t cost_of(const Graph& graph, OverheadOf of) {
  const ModelCost cost = model_cost(graph);
  return of == OverheadOf::kParameters ? cost.parameters : cost.macs;
}

}  // namespace sentinel
