#pragma once
#include <nlohmann/json.hpp>

#include "sentinel/store/result_file.hpp"

namespace sentinel {

/// Whether some trials of a result were, or were to be, run again by the reference path.
bool is_audited(const ResultFile& result);
/// Where they were: what the reference path found, and the first trials with mismatches.
void print_audit(const ResultFile& result);
/// The same as sums.
nlohmann::json audit_json(const ResultFile& result);

}  // namespace sentinel
