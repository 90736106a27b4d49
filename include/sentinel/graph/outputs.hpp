#pragma once
#include <vector>

#include "sentinel/graph/stored.hpp"

namespace sentinel {

/// Whether tensors of this class are outputs of nodes, and not stored.
bool is_output(TensorClass kind);

/// Outputs of a class for one image as fp32 tensors, by the names of their nodes, in execution
/// order; rows are channels. kPost: distinct outputs that a Conv2d or Linear reads, looked at
/// through Flatten and Dropout, the images among them. UserError where one of these is the merged
/// result of a duplicated convolution: `kActivation` hits what it merges.
std::vector<StoredTensor> output_tensors(const Graph& graph, TensorClass kind);

}  // namespace sentinel
