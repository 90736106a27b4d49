#pragma once
#include <ATen/ATen.h>

#include <cstdint>
#include <map>
#include <vector>

#include "sentinel/graph/graph.hpp"

namespace sentinel {

/// Rounds a run of the reference path in another way (Monte Carlo arithmetic): each value that a
/// convolution or linear layer gives is moved up or down, at random, by 2^-23 of the sum of its
/// products' magnitudes. Any order of summation in fp32 may err so much.
class RoundingNoise {
 public:
  /// Of one pass over one batch. Another `draw` rounds otherwise.
  RoundingNoise(const Graph& graph, std::uint64_t draw);

  /// An OnOutput: to be shown every output, in the order of nodes. Faults in outputs come after it.
  void apply(NodeId node, at::Tensor& output);

 private:
  void move(NodeId node, at::Tensor& output) const;

  Graph magnitudes_;  // of weights and biases
  std::uint64_t draw_;
  std::vector<NodeId> last_sum_;         // by node, the last sum that reads its output; 0: none
  std::map<NodeId, at::Tensor> inputs_;  // of sums to come
};

}  // namespace sentinel
