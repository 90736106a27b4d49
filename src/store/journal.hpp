#pragma once
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sentinel/core/file.hpp"
#include "store/checks.hpp"
#include "store/index.hpp"
#include "store/record.hpp"

/// The journal of one incarnation, little-endian throughout:
///   header  magic "SNNJRNL" and a zero byte, version u32 (that of the schema of its rows), length
///   u32, checksum u64 of the body,
///           body: JSON {fingerprint, parts, plan [[first, end], ...] by point, session {number,
///           started, ranks, host, info}}; journals of earlier versions have no plan
///   frames  length u32 of the payload, checksum u64 of the payload, payload:
///           kind u32 (1 = records, 2 = audits), time f64 [s since 1970], count u32, then `count`
///           records (record.hpp) or packed AuditRows
/// A frame is written by one write(). A bad frame counts as never written, and so does what follows
/// it up to the next good one.
namespace sentinel::store {

inline constexpr std::string_view kJournalMagic{"SNNJRNL", 8};
inline constexpr std::uint32_t kJournalVersion = 3;

struct JournalHeader {
  std::string fingerprint;
  std::map<std::string, std::string> parts;
  SessionRow session;
  std::vector<IdRange> plan = {};  // of this session, by point; none: not known
  std::uint32_t version = kJournalVersion;
};

/// A frame under construction.
class Frame {
 public:
  static constexpr std::size_t kHead = 12;                 // length, checksum
  static constexpr std::size_t kFirstRecord = kHead + 16;  // kind, time, count
  enum class Kind : std::uint32_t { kRecords = 1, kAudits = 2 };

  void begin(Kind kind, double time);
  /// Offset of the record within the frame.
  std::size_t add(const TrialRow& row, const std::vector<FaultRow>& faults);
  void add(const AuditRow& row);
  PackedRecord at(std::size_t offset) const { return {bytes_.data() + offset}; }
  bool empty() const { return count_ == 0; }
  /// Fills in count, length and checksum. Throws Bug where the frame is larger than 4 GiB.
  const std::vector<std::byte>& seal();

 private:
  std::vector<std::byte> bytes_;
  std::uint32_t count_ = 0;
};

/// Creates a journal (exclusively) and appends to it.
class JournalWriter {
 public:
  JournalWriter(const std::string& path, const JournalHeader& header);

  /// End of the last good frame: the next frame begins here.
  std::uint64_t size() const { return size_; }
  /// One write(); where it fails the file is cut back to the last good frame. Throws
  /// EnvironmentError.
  void append(const std::vector<std::byte>& frame);
  /// fdatasync if there is anything new; may be called by another thread than append.
  void sync();

 private:
  FileHandle file_;
  std::uint64_t size_ = 0;
  std::atomic<bool> dirty_{false};
  bool broken_ = false;
};

/// Reads a file in windows: large ones where access is sequential, small ones where it jumps.
class WindowedFile {
 public:
  explicit WindowedFile(const std::string& path);
  std::uint64_t size() const { return size_; }  // when opened
  const std::string& path() const { return file_.path(); }
  /// Valid until the next call; null where the file ends before.
  const std::byte* fetch(std::uint64_t offset, std::size_t size);

 private:
  FileHandle file_;
  std::uint64_t size_ = 0, begin_ = 0;
  std::vector<std::byte> window_;
};

struct JournalVisitor {
  std::function<void(std::uint64_t offset, const PackedRecord&)> record;
  std::function<void(std::uint64_t offset, const AuditRow&)> audit;
  /// Whether a record behind damage has all that belongs to it. A frame with one that has not is
  /// skipped.
  std::function<bool(const PackedRecord&)> whole = [](const PackedRecord&) { return true; };
};

struct JournalScan {
  double last = 0;       // time of the last frame, 0 without any
  bool damaged = false;  // more is bad than a frame that was being written last
};

/// Nothing where the header was not completely written (then nothing was acknowledged either).
/// Throws DataError for a newer version, a damaged header, or one that holds what cannot be.
/// Headers of earlier versions are read, the rows behind them are not.
std::optional<JournalHeader> read_journal_header(const std::string& path);
/// Visits everything in complete frames; logs what is skipped and what is cut. Throws DataError for
/// another version, and for a frame that holds what cannot be.
JournalScan scan_journal(const std::string& path, const JournalVisitor& visitor);

/// Reads records of several journals by their location.
class RecordReader {
 public:
  explicit RecordReader(std::vector<std::string> paths);
  /// Valid until the next call. Throws DataError where it is not there.
  PackedRecord at(Location location);

 private:
  WindowedFile& file(std::size_t journal);

  std::vector<std::string> paths_;
  std::vector<std::unique_ptr<WindowedFile>> files_;
  std::size_t open_ = 0;
};

/// Seconds since 1970.
double unix_time();

}  // namespace sentinel::store
