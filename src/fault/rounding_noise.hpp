#pragma once
#include <ATen/ATen.h>

#include <cstdint>
#include <map>
#include <vector>

#include "sentinel/graph/graph.hpp"

namespace sentinel {

/// The graph with the magnitudes of its weights and biases.
Graph magnitudes_of(const Graph& graph);

/// Which roundings.
struct RoundingDraw {
  const Graph* magnitudes = nullptr;  // of the network that runs
  std::uint64_t number = 0;
};

/// Rounds a run of the reference path in another way (Monte Carlo arithmetic): each value that a
/// convolution or linear layer gives is moved up or down, at random, by 2^-23 of the sum of its
/// products' magnitudes. Any order of summation in fp32 may err so much.
class RoundingNoise {
 public:
  /// For one pass over one batch. Another number rounds otherwise.
  explicit RoundingNoise(const RoundingDraw& draw);

  /// An OnOutput: to be shown every output, in the order of nodes. Faults in outputs come after it.
  void apply(NodeId node, at::Tensor& output);

 private:
  void move(NodeId node, at::Tensor& output) const;

  const Graph& magnitudes_;
  std::uint64_t number_;
  std::vector<NodeId> last_sum_;         // by node, the last sum that reads its output; 0: none
  std::map<NodeId, at::Tensor> inputs_;  // of sums to come
};

}  // namespace sentinel
