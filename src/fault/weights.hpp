#pragma once
#include <string>

#include "sentinel/graph/graph.hpp"

namespace sentinel {

/// The weight of a Conv, DuplicatedConv or Linear [out (+ d), in/groups, …]; null for other
/// operators.
const at::Tensor* weight_of(const Op& op);

/// Groups of a convolution, 1 for other operators.
std::int64_t groups_of(const Op& op);

/// The convolution or linear layer whose output channels a node has, by name; empty: none, or
/// several.
std::string producer_of(const Graph& graph, NodeId node);

}  // namespace sentinel
