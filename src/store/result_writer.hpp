#pragma once
#include <functional>
#include <string>
#include <vector>

#include "sentinel/store/schema.hpp"
#include "store/record.hpp"

namespace sentinel::store {

inline constexpr char kResultSchema[] = "sentinelnn-result";

/// What changes from one publication to the next.
struct ResultContents {
  bool complete = false;
  std::vector<SessionRow> sessions;
  Findings findings;
  std::vector<AuditRow> audit;  // sorted
  /// Visits all records in (point, id, model) order.
  std::function<void(const std::function<void(const PackedRecord&)>&)> each_record;
};

/// Writes a complete result under a temporary name and renames it to `path`. Waits for any other
/// use of HDF5 in this process. Throws EnvironmentError.
void publish_result(const std::string& path, const ResultInfo& info,
                    const ResultContents& contents);

}  // namespace sentinel::store
