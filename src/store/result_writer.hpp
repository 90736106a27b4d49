#pragma once
#include <functional>
#include <string>
#include <vector>

#include "sentinel/store/schema.hpp"
#include "store/record.hpp"
#include "store/working_files.hpp"

namespace sentinel::store {

/// What changes from one publication to the next.
struct ResultContents {
  bool complete = false;
  std::vector<SessionRow> sessions;
  Findings findings;
  std::vector<AuditRow> audit;  // sorted
  /// Visits all records in (point, id, model) order.
  std::function<void(const std::function<void(const PackedRecord&)>&)> each_record;
  /// Called when everything is written, before the rename. Throws where the lock was lost: what its
  /// new holder publishes must not be overwritten.
  std::function<void()> before_rename = [] {};
};

/// Writes a complete result under a temporary name and puts it in the place of `file`. Waits for
/// any other use of HDF5 in this process. Throws EnvironmentError.
void publish_result(OwnFile& file, const ResultInfo& info, const ResultContents& contents);

}  // namespace sentinel::store
