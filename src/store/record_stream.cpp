#include "store/record_stream.hpp"

#include <algorithm>
#include <tuple>

#include "sentinel/core/error.hpp"
#include "store/record.hpp"

namespace sentinel::store {
namespace {

constexpr hsize_t kOffsetRows = 65536;

}  // namespace

Offsets::Offsets(const h5::File& file, std::uint64_t trials, std::uint64_t sites)
    : file_(file), data_(file, file.id(), "faults/offsets"), sites_(sites) {
  if (data_.shape().size() != 1 || data_.rows() != trials + 1 || at(trials) != sites || at(0) != 0)
    fail();
}

std::uint64_t Offsets::at(hsize_t row) {
  if (row < first_ || row - first_ >= values_.size()) {
    first_ = row;
    values_.resize(std::min(kOffsetRows, data_.rows() - row));
    data_.read(h5::number_type<std::uint64_t>(), row, values_.size(), values_.data());
    if (!std::is_sorted(values_.begin(), values_.end()) || values_.back() > sites_) fail();
  }
  return values_[row - first_];
}

std::uint64_t Offsets::between(hsize_t first, hsize_t last) {
  const std::uint64_t begin = at(first), end = at(last);
  if (begin > end) fail();
  return end - begin;
}

void Offsets::fail() const {
  throw DataError(file_.path(), "/faults/offsets does not fit /trials and /faults/sites");
}

RecordTables::RecordTables(const std::string& path)
    : file_(open_result(path)),
      head_(read_head(file_)),
      checks_(row_checks(head_)),
      trials_(file_, file_.id(), "trials", head_.info.schema),
      sites_(file_, file_.id(), "faults/sites", head_.info.schema),
      offsets_(file_, trials_.rows(), sites_.rows()) {}

std::vector<TrialRow> RecordTables::read(hsize_t first, hsize_t count) {
  const std::vector<TrialRow> rows = trials_.read(first, count);
  for (hsize_t i = 0; i < count; ++i) {
    const TrialRow& row = rows[i];
    checks_.check({file_.path(), "/trials, row", first + i}, row);
    const auto key = std::make_tuple(row.point, row.id, row.model);
    if (first + i > 0 && key <= last_)
      throw DataError(file_.path(), "/trials, row " + std::to_string(first + i) + ": " +
                                        name_of(row) +
                                        " is out of order or there twice; the file is damaged");
    last_ = key;
    const std::uint64_t faults = offsets_.between(first + i, first + i + 1);
    if (stored_faults(row) != faults)
      throw DataError(file_.path(), "/trials, row " + std::to_string(first + i) + ": n_faults is " +
                                        std::to_string(row.n_faults) + ", faults_stored is " +
                                        std::to_string(row.faults_stored) + ", and " +
                                        std::to_string(faults) +
                                        " faults are stored; the file is damaged");
  }
  return rows;
}

std::vector<TrialRecord> RecordTables::with_faults(hsize_t first,
                                                   const std::vector<TrialRow>& rows) {
  std::uint64_t at = offsets_.at(first);
  const auto sites = sites_.read(at, faults(first, rows.size()));
  auto next = sites.begin();
  std::vector<TrialRecord> records(rows.size());
  for (hsize_t i = 0; i < rows.size(); ++i) {
    const auto end = next + static_cast<std::ptrdiff_t>(stored_faults(rows[i]));
    for (auto fault = next; fault != end; ++fault)
      checks_.check({file_.path(), "/faults/sites, row", at++}, rows[i], *fault);
    records[i] = {rows[i], {next, end}};
    next = end;
  }
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

}  // namespace sentinel::store
