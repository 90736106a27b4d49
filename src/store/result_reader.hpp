#pragma once
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "sentinel/store/result_file.hpp"
#include "store/checks.hpp"

namespace sentinel::h5 {
class File;
}

namespace sentinel::store {

/// What a resumed campaign needs to know of the published result before its rows.
struct ResultHead {
  ResultInfo info;
  bool complete = false;
  std::vector<SessionRow> sessions;
  Findings findings;
  std::vector<AuditRow> audit;
};

/// Throws DataError where the file is no result of ours, of a newer schema, or damaged
/// (checks.hpp).
ResultHead read_result_head(const std::string& path);
/// The same of an open file.
ResultHead read_head(const h5::File& file);
/// Those of the rows of the result, whose latest session had the plan that is in it.
RowChecks row_checks(const ResultHead& head);

/// Streams all records of a result, some thousand at a time.
void stream_result(const std::string& path,
                   const std::function<void(const std::vector<TrialRecord>&)>& visit);

}  // namespace sentinel::store
