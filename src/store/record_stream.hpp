#pragma once
#include <functional>
#include <string>
#include <tuple>
#include <vector>

#include "store/checks.hpp"
#include "store/result_reader.hpp"
#include "store/table.hpp"

namespace sentinel::store {

/// How much of a result is in memory at a time; a single record may have more faults.
struct StreamLimits {
  hsize_t rows = 4096;
  std::uint64_t faults = 1 << 20;
};

/// /faults/offsets, some at a time: they ascend from 0 to the number of sites, or a DataError is
/// thrown.
class Offsets {
 public:
  Offsets(const h5::File& file, std::uint64_t trials, std::uint64_t sites);
  std::uint64_t at(hsize_t row);
  /// at(last) - at(first)
  std::uint64_t between(hsize_t first, hsize_t last);

 private:
  [[noreturn]] void fail() const;

  const h5::File& file_;
  h5::Dataset data_;
  std::uint64_t sites_;
  hsize_t first_ = 0;
  std::vector<std::uint64_t> values_;  // from row first_ on
};

/// The rows of a result with their faults. Throws DataError where a row cannot be (checks.hpp), or
/// they do not fit together.
class RecordTables {
 public:
  explicit RecordTables(const std::string& path);
  RecordTables(const RecordTables&) = delete;  // the tables refer to the file
  RecordTables& operator=(const RecordTables&) = delete;

  const ResultHead& head() const { return head_; }
  hsize_t rows() const { return trials_.rows(); }
  /// From the first to the last, block by block: what comes before a block is read before.
  std::vector<TrialRow> read(hsize_t first, hsize_t count);
  /// Of `count` rows together.
  std::uint64_t faults(hsize_t first, hsize_t count) {
    return offsets_.between(first, first + count);
  }
  /// The records of the rows; `rows` are those from `first` on.
  std::vector<TrialRecord> with_faults(hsize_t first, const std::vector<TrialRow>& rows);

 private:
  h5::File file_;
  ResultHead head_;
  RowChecks checks_;
  h5::RowReader<TrialRow> trials_;
  h5::RowReader<FaultRow> sites_;
  Offsets offsets_;
  std::tuple<std::uint32_t, std::uint64_t, std::uint32_t> last_;  // row read
};

/// The records of a result from the first to the last.
class RecordStream {
 public:
  explicit RecordStream(const std::string& path, const StreamLimits& limits = {})
      : tables_(path), limits_(limits) {}
  /// The next block of records, empty at the end.
  std::vector<TrialRecord> next();

 private:
  RecordTables tables_;
  StreamLimits limits_;
  hsize_t first_ = 0;
};

/// Streams all records of a result, some thousand at a time.
void stream_result(const std::string& path,
                   const std::function<void(const std::vector<TrialRecord>&)>& visit);

}  // namespace sentinel::store
