#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "sentinel/graph/graph.hpp"

namespace sentinel {

struct LayerCost {
  std::string name;
  std::int64_t parameters = 0;  // weight and bias, or BN's weight and bias; copies count
  std::int64_t macs =
      0;  // multiply-accumulates of Conv and Linear for one image; duplicated rows count
  std::int64_t activations = 0;  // elements of the output for one image
};

struct ModelCost {
  std::int64_t parameters = 0;    // bounds and intervals not counted (as PyTorch counts)
  std::int64_t macs = 0;          // for one image
  std::int64_t memory_bytes = 0;  // everything stored: parameters, BN statistics, bounds, intervals
  std::int64_t stored_bits = 0;   // of the stored tensors: scales and check words, no counters
  double bits_per_weight = 0;     // of the words of weights, with the check words of their codes
  std::vector<LayerCost> layers;  // every node, execution order
};

/// Parameters, MACs and memory of a graph, from shapes alone.
ModelCost model_cost(const Graph& graph);

/// Output shape without the batch dimension of every node: {C, H, W} or {C}.
std::vector<std::vector<std::int64_t>> output_shapes(const Graph& graph);

/// Number of output channels (features after Flatten) of every node.
std::vector<std::int64_t> channel_counts(const Graph& graph);
std::int64_t class_count(const Graph& graph);

}  // namespace sentinel
