#pragma once
#include <nlohmann/json.hpp>

#include "sentinel/store/result_file.hpp"

namespace sentinel {

/// Tables of points that are divided (--sampling per-layer and the like), for each network one line
/// per stratum, in the order of the network.
void print_strata(const ResultFile& result);
/// The same estimates as an array, empty where there are none.
nlohmann::json strata_json(const ResultFile& result);

}  // namespace sentinel
