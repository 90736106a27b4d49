#include "store/record_stream.hpp"

#include <algorithm>

#include "sentinel/core/error.hpp"
#include "sentinel/store/result_file.hpp"
#include "store/result_reader.hpp"
#include "store/result_writer.hpp"

namespace sentinel {
namespace store {
namespace {

/// Offsets that ascend from 0 to the number of sites.
std::vector<std::uint64_t> read_offsets(const h5::File& file, std::uint64_t trials,
                                        std::uint64_t sites) {
  auto offsets = h5::read_numbers<std::uint64_t>(file, file.id(), "faults/offsets");
  if (offsets.size() != trials + 1 || offsets.front() != 0 || offsets.back() != sites ||
      !std::is_sorted(offsets.begin(), offsets.end()))
    throw DataError(file.path(), "/faults/offsets does not fit /trials and /faults/sites");
  return offsets;
}

}  // namespace

h5::File open_result(const std::string& path) {
  h5::File file = h5::File::open(path);
  const hid_t root = file.id();
  const std::string schema =
      h5::has_attribute(file, root, "schema") ? h5::get_text(file, root, "schema") : "";
  if (schema == kRankingSchema)
    throw DataError(
        path, "is no result of sentinelnn but a ranking; `sentinelnn inspect` shows what it holds");
  if (schema != kResultSchema) throw DataError(path, "is no result of sentinelnn");
  const auto found = h5::get<std::int32_t>(file, root, "schema_version");
  if (found > kSchemaVersion)
    throw DataError(path, "has schema version " + std::to_string(found) + ", newer than " +
                              std::to_string(kSchemaVersion) +
                              "; use the sentinelnn that wrote it");
  return file;
}

RecordTables::RecordTables(const std::string& path)
    : file_(open_result(path)),
      trials_(file_, file_.id(), "trials"),
      sites_(file_, file_.id(), "faults/sites"),
      offsets_(read_offsets(file_, trials_.rows(), sites_.rows())) {}

std::vector<TrialRecord> RecordTables::with_faults(hsize_t first,
                                                   const std::vector<TrialRow>& rows) {
  const std::uint64_t begin = offsets_[first];
  const auto sites = sites_.read(begin, faults(first, rows.size()));
  const auto at = [&](hsize_t row) {
    return sites.begin() + static_cast<std::ptrdiff_t>(offsets_[row] - begin);
  };
  std::vector<TrialRecord> records(rows.size());
  for (hsize_t i = 0; i < rows.size(); ++i)
    records[i] = {rows[i], {at(first + i), at(first + i + 1)}};
  return records;
}

std::vector<TrialRecord> RecordStream::next() {
  hsize_t count = std::min(limits_.rows, tables_.rows() - first_);
  while (count > 1 && tables_.faults(first_, count) > limits_.faults) count /= 2;
  auto records = tables_.with_faults(first_, tables_.read(first_, count));
  first_ += count;
  return records;
}

void stream_result(const std::string& path,
                   const std::function<void(const std::vector<TrialRecord>&)>& visit) {
  const h5::Guard guard;
  RecordStream stream(path);
  for (auto records = stream.next(); !records.empty(); records = stream.next()) visit(records);
}

}  // namespace store

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

}  // namespace sentinel
