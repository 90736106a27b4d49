#pragma once
#include <functional>
#include <string>
#include <vector>

#include "store/table.hpp"

namespace sentinel::store {

/// Opens a result; throws DataError where it is none of ours or of a newer schema. Like everything
/// here it wants the caller's h5::Guard.
h5::File open_result(const std::string& path);

/// How much of a result is in memory at a time; a single record may have more faults.
struct StreamLimits {
  hsize_t rows = 4096;
  std::uint64_t faults = 1 << 20;
};

/// The rows of a result with their faults. Throws DataError where they do not fit together.
class RecordTables {
 public:
  explicit RecordTables(const std::string& path);
  RecordTables(const RecordTables&) = delete;  // the tables refer to the file
  RecordTables& operator=(const RecordTables&) = delete;

  hsize_t rows() const { return trials_.rows(); }
  std::vector<TrialRow> read(hsize_t first, hsize_t count) { return trials_.read(first, count); }
  /// Of `count` rows together.
  std::uint64_t faults(hsize_t first, hsize_t count) const {
    return offsets_[first + count] - offsets_[first];
  }
  /// The records of the rows; `rows` are those from `first` on.
  std::vector<TrialRecord> with_faults(hsize_t first, const std::vector<TrialRow>& rows);

 private:
  h5::File file_;
  h5::RowReader<TrialRow> trials_;
  h5::RowReader<FaultRow> sites_;
  std::vector<std::uint64_t> offsets_;
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

}  // namespace sentinel::store
