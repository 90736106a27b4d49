#pragma once
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "sentinel/store/schema.hpp"
#include "store/record.hpp"

namespace sentinel::store {

/// A result to be joined with others.
struct MergeInput {
  std::string path;
  std::map<std::uint32_t, std::uint32_t> sessions;  // number in the file -> in the joined result
};

/// Visits the records of all inputs together in (point, id, model) order, their sessions numbered
/// as the inputs say; of equal ones the first input's, marked as audited where some input's is.
/// Returns how many others were dropped. Throws DataError naming file and trial where inputs
/// disagree or one is damaged. Under the caller's h5::Guard.
std::uint64_t merge_records(const std::vector<MergeInput>& inputs,
                            const std::function<bool(const TrialRow&)>& is_audited,
                            const std::function<void(const PackedRecord&)>& visit);

}  // namespace sentinel::store
