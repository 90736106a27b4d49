#pragma once
#include <string>
#include <vector>

#include "sentinel/store/schema.hpp"

namespace sentinel {

/// A column with another value in the second of two runs of a trial, both as text.
struct Difference {
  std::string column, first, second;
};
/// In all columns but those that may differ (faults_stored, session, audited, path, wall_us, rank)
/// and counts that the first row does not tell.
std::vector<Difference> differences(const TrialRow& first, const TrialRow& second);
/// Columns are called "fault 3 after"; of lists of different lengths only that is said ("faults").
std::vector<Difference> differences(const std::vector<FaultRow>& first,
                                    const std::vector<FaultRow>& second);

}  // namespace sentinel
