#pragma once
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "sentinel/store/schema.hpp"

namespace sentinel::store {

/// What a resumed campaign needs to know of the published result before its rows.
struct ResultHead {
  std::string fingerprint;
  std::map<std::string, std::string> parts;
  bool complete = false;
  std::vector<SessionRow> sessions;
  Findings findings;
  std::vector<AuditRow> audit;
};

/// Throws DataError where the file is no result of ours or of a newer schema.
ResultHead read_result_head(const std::string& path);

/// Streams all records of a result, some thousand at a time.
void stream_result(const std::string& path,
                   const std::function<void(const std::vector<TrialRecord>&)>& visit);

}  // namespace sentinel::store
