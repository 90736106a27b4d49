#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "models/layer_source.hpp"

namespace sentinel {

/// invalid_argument where a number in it is none that fits in 64 bits: 2.5, or 1e300.
void require_whole(const nlohmann::json& value);

/// The nodes of a network without their tensors, as JSON: for networks that no family here builds
/// (imported ones), so that a checkpoint of them describes itself. Protection is not part of it.
nlohmann::json write_structure(const Graph& graph);

/// The network again, its tensors from a source. invalid_argument or json::exception where the text
/// describes none.
Graph read_structure(const nlohmann::json& structure, LayerSource& source);

}  // namespace sentinel
