#pragma once
#include <string>
#include <vector>

#include "sentinel/graph/profile.hpp"
#include "sentinel/stats/interval.hpp"

namespace sentinel {

/// Rows of text in aligned columns on stdout: the first row is the heading, the first column is
/// left-aligned.
void print_table(const std::vector<std::vector<std::string>>& rows);

/// "12 345 678"
std::string with_spaces(std::int64_t n);
/// "87.50"
std::string percent(double share);

/// Parameters, MACs and memory before and after, with ratios.
void print_overhead(const ModelCost& before, const ModelCost& after);

}  // namespace sentinel
