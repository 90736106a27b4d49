#pragma once
#include <string>
#include <vector>

#include "sentinel/store/merge.hpp"

namespace sentinel {

/// Joins results of one campaign (see ResultMerge) and makes the estimates from all their rows, as
/// the campaign would have. On one rank. Throws what ResultMerge does.
MergeReport merge_results(const std::vector<std::string>& inputs, const std::string& output);

}  // namespace sentinel
