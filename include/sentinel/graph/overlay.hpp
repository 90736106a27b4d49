#pragma once
#include <map>
#include <vector>

#include "sentinel/graph/graph.hpp"

namespace sentinel {

/// Values that a computation reads instead of those that a graph holds. The graph stays as it is.
struct Overlay {
  /// Nodes that are read otherwise. Tensors that do not differ are the graph's own.
  std::map<NodeId, Op> ops;
  /// Rows of a Linear's weight that differ. The weight may be large, so it is not copied.
  struct Rows {
    std::vector<std::int64_t> numbers;  // ascending
    at::Tensor values;                  // [numbers, in] f32, contiguous, on the CPU
  };
  std::map<NodeId, Rows> rows;
};

}  // namespace sentinel
