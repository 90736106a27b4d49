#pragma once
#include "sentinel/graph/graph.hpp"
#include "sentinel/networks/selection.hpp"

namespace sentinel {

/// Throws UserError where the ratios or the clipping that the selection names are not those of the
/// network; a clipping that the network lacks is left to the caller.
void check_seed_options(const Graph& graph, const ModelSelection& selection);

}  // namespace sentinel
