#pragma once
#include <string>
#include <vector>

#include "sentinel/store/schema.hpp"
#include "store/checks.hpp"

namespace sentinel::h5 {
class File;
}

namespace sentinel::store {

/// Opens a result; throws DataError where it is none of ours or of a newer schema. Like everything
/// here it wants the caller's h5::Guard.
h5::File open_result(const std::string& path);
/// The schema of a result that open_result opened.
int schema_of(const h5::File& file);

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
/// The fault-free logits of a model, which are in no head.
void read_logits(const h5::File& file, ModelInfo& model);
/// Those of the rows of the result, whose latest session had the plan that is in it.
RowChecks row_checks(const ResultHead& head);

}  // namespace sentinel::store
