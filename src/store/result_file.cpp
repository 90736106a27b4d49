#include "sentinel/store/result_file.hpp"

#include <algorithm>
#include <tuple>

#include "sentinel/core/error.hpp"
#include "store/record_stream.hpp"
#include "store/result_reader.hpp"

namespace sentinel {
namespace {

ResultFile without_trials(store::ResultHead head) {
  ResultFile result;
  result.info = std::move(head.info);
  result.complete = head.complete;
  result.estimates = std::move(head.findings.estimates);
  result.audit = std::move(head.audit);
  result.sessions = std::move(head.sessions);
  return result;
}

/// Every audit is of a row, and both tables are in the same order.
void check_audited(const std::string& path, const ResultFile& result) {
  const auto key = [](const auto& row) { return std::make_tuple(row.point, row.id, row.model); };
  std::size_t next = 0;
  for (const TrialRow& row : result.trials)
    next += next < result.audit.size() && key(result.audit[next]) == key(row);
  if (next == result.audit.size()) return;
  const AuditRow& row = result.audit[next];
  throw DataError(path, "/audit, row " + std::to_string(next) + ": trial " +
                            std::to_string(row.id) + " of point " + std::to_string(row.point) +
                            ", model " + std::to_string(row.model) +
                            " is not in /trials, or out of order; the file is damaged");
}

}  // namespace

ResultFile read_result(const std::string& path) {
  const h5::Guard guard;
  store::RecordTables tables(path);
  ResultFile result = without_trials(tables.head());
  const hsize_t block = store::StreamLimits().rows;
  for (hsize_t first = 0; first < tables.rows(); first += block) {
    const auto rows = tables.read(first, std::min(block, tables.rows() - first));
    result.trials.insert(result.trials.end(), rows.begin(), rows.end());
  }
  check_audited(path, result);
  return result;
}

ResultFile read_result_outline(const std::string& path) {
  const h5::Guard guard;
  const h5::File file = store::open_result(path);
  ResultFile result = without_trials(store::read_head(file));
  for (ModelInfo& model : result.info.models) store::read_logits(file, model);
  return result;
}

std::vector<TrialRecord> read_records(const std::string& path,
                                      const std::function<bool(const TrialRow&)>& wanted) {
  const h5::Guard guard;
  store::RecordTables tables(path);
  const hsize_t block = store::StreamLimits().rows;
  std::vector<TrialRecord> records;
  for (hsize_t first = 0; first < tables.rows(); first += block) {
    const auto rows = tables.read(first, std::min(block, tables.rows() - first));
    for (hsize_t i = 0; i < rows.size(); ++i)
      if (wanted(rows[i])) records.push_back(tables.with_faults(first + i, {rows[i]}).front());
  }
  return records;
}

std::vector<std::vector<FaultRow>> read_faults(const std::string& path) {
  std::vector<std::vector<FaultRow>> all;
  store::stream_result(path, [&](const std::vector<TrialRecord>& records) {
    for (const TrialRecord& record : records) all.push_back(record.faults);
  });
  return all;
}

std::string hdf5_schema(const std::string& path) {
  const h5::Guard guard;
  const h5::File file = h5::File::open(path);
  return h5::has_attribute(file, file.id(), "schema") ? h5::get_text(file, file.id(), "schema")
                                                      : "";
}

std::string hdf5_version() {
  const h5::Guard guard;
  unsigned major = 0, minor = 0, release = 0;
  H5get_libversion(&major, &minor, &release);
  return std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(release);
}

}  // namespace sentinel
