#pragma once
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace sentinel {

/// Which of a result's trials.
struct TrialChoice {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges;  // ids, first to last
  std::uint64_t random = 0;            // this many of all that are stored, instead of ranges
  std::uint64_t seed = 1;              // of the random ones
  std::optional<std::uint32_t> point;  // only of this one
};
/// "3,17-20" or "random:20". UserError for other texts.
TrialChoice parse_trials(const std::string& text);

/// (point, id) of the trials of a result that are chosen. UserError where one is not stored, or
/// fewer than the random ones; DataError.
std::set<std::pair<std::uint32_t, std::uint64_t>> choose_trials(const std::string& result,
                                                                const TrialChoice& choice);

}  // namespace sentinel
