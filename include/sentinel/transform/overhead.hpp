#pragma once
#include <cstdint>
#include <vector>

#include "sentinel/graph/graph.hpp"
#include "sentinel/transform/importance.hpp"

namespace sentinel {

enum class OverheadOf { kParameters, kMacs };

/// What duplication may add to a network.
struct Overhead {
  double share = 0;  // of what the network has without copies, in (0, 1]
  OverheadOf of = OverheadOf::kParameters;
  ScoreScale scale = ScoreScale::kLayer;  // of the scores
};

/// How many channels of each scored layer are worth a copy, its best first: of the channels of all
/// layers, in order of benefit per cost, every one that still fits. The cost of a channel is its
/// filter, with bias. Its benefit is the score; of kFlip times the weights of the filter, for so
/// often is it hit. UserError where not even the cheapest channel fits. Bug for other graphs.
std::vector<std::int64_t> copies_within(const Overhead& overhead, const Graph& graph,
                                        const ChannelScores& scores);

/// What the copies in a hardened graph cost, as `of` says.
std::int64_t cost_of_copies(const Graph& hardened, OverheadOf of);
/// Parameters or MACs of a graph.
std::int64_t cost_of(const Graph& graph, OverheadOf of);

}  // namespace sentinel
