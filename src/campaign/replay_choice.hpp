#pragma once
#include <set>
#include <string>
#include <utility>

#include "sentinel/campaign/replay.hpp"

namespace sentinel {

/// (point, id) of the trials of a result that are chosen. UserError where one is not stored, or
/// fewer than the random ones; DataError.
std::set<std::pair<std::uint32_t, std::uint64_t>> choose_trials(const std::string& result,
                                                                const TrialChoice& choice);

}  // namespace sentinel
