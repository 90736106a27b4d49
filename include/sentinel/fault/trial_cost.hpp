#pragma once
#include <vector>

#include "sentinel/fault/sampler.hpp"
#include "sentinel/graph/graph.hpp"

namespace sentinel {

/// What trials of the fast engine cost, from MACs and never from the clock, in runs of the whole
/// network on the same images. Images that nothing reaches cost less than this says.
class TrialCost {
 public:
  TrialCost(const Graph& graph, const FaultSpace& space);
  /// First fault in this tensor of the space: everything from its layer on is run.
  double dense(std::size_t tensor) const { return dense_[tensor]; }
  /// All faults in one output channel of it: that channel, what it adds to the next convolutions,
  /// and everything behind them.
  double one_channel(std::size_t tensor) const { return one_channel_[tensor]; }
  /// Mean of a sampler's trials.
  double expected(const Sampler& sampler) const;

 private:
  double single(const Sampler& sampler) const;

  FaultSpace space_;
  std::vector<std::pair<NodeId, double>> macs_;  // of each layer that has any, in runs
  std::vector<double> dense_, one_channel_;
};

/// Share of the trials that can be run again by the reference path at a cost of at most 2 % of the
/// trials' own, by their expected cost. `at_once`: trials of a batch, which one alone costs as much
/// as all of them.
double default_audit_rate(double expected_cost, std::int64_t at_once = 1);

}  // namespace sentinel
