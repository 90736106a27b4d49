#pragma once
#include <map>
#include <string>

#include "sentinel/transform/harden.hpp"

namespace sentinel {

/// How many channels go.
struct PruningPlan {
  double ratio = 0;                      // in [0, 1), of every group without a ratio of its own
  std::map<std::string, double> ratios;  // convolution -> ratio in [0, 1), for its whole group
  GroupScore group_score = GroupScore::kMean;
};

/// Sorts the channels of every permutable group, then removes its last floor(C * ratio) ones of C,
/// with everything indexed by them; consumers shrink alike (Li et al., ICLR 2017; coupled channels
/// as Fang et al., CVPR 2023). The logits are never pruned, nor are channels that a shuffle mixes
/// where it could not bring those that stay to the readers they had. `Graph::origin` remembers
/// which channels stay. UserError for a ratio outside [0, 1) or that empties a layer, for a layer
/// that is none or cannot be pruned, for layers of one group with different ratios and for a
/// protected graph.
Graph prune(const Graph& graph, const ChannelScores& scores, const PruningPlan& plan);

}  // namespace sentinel
