#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sentinel/store/schema.hpp"

namespace sentinel {

/// Whose faults of a result a list is.
struct ListChoice {
  std::optional<std::uint32_t> point;  // empty: the only one
  std::string network;                 // by name; empty: the first
};
/// Numbers of a point and a network of the result.
struct ListedOf {
  std::uint32_t point = 0, model = 0;
};
/// UserError where the result at `path` has not what is chosen.
ListedOf listed_of(const std::string& path, const ResultInfo& info, const ListChoice& choice);

/// The list (CSV, docs/fault_lists.md) of the faults of one network's trials of one point, which
/// gives the same words before and after, and the same counters. UserError where a record lacks its
/// faults.
std::string fault_list_text(const std::string& path, const ResultInfo& info, const ListedOf& of,
                            const std::vector<TrialRecord>& records);
/// The same of all trials that the result has. Throws what read_records does.
std::string stored_fault_list(const std::string& path, const ListChoice& choice);

}  // namespace sentinel
