#pragma once
#include <string>
#include <vector>

#include "sentinel/graph/graph.hpp"

namespace sentinel {

/// "layer1.0.conv1" -> {"layer1", "0", "conv1"}
std::vector<std::string> path_of(const std::string& dotted);

/// A name that TorchScript accepts, with "_" for all but letters and digits and before a first
/// digit.
std::string identifier(const std::string& name);

/// The methods of the exported network in TorchScript: forward, one line per node, and those that
/// protect, which it calls. Tensors are attributes of modules named as the nodes: what
/// for_each_tensor calls them, and `duplicated` [d] i64.
std::string script_source(const Graph& graph);

}  // namespace sentinel
