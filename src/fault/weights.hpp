#pragma once
#include "sentinel/fault/fault_space.hpp"

namespace sentinel {

/// The weight of a Conv, DuplicatedConv or Linear [out (+ d), in/groups, …]; null for other
/// operators.
const at::Tensor* weight_of(const Op& op);

/// Rows of the weight that are originals; the rest are copies. Only for nodes with a weight.
std::int64_t original_rows(const Op& op);

/// Groups of a convolution, 1 for other operators.
std::int64_t groups_of(const Op& op);

/// The convolution or linear layer whose output channels a node has, by name; empty: none, or
/// several.
std::string producer_of(const Graph& graph, NodeId node);

}  // namespace sentinel
