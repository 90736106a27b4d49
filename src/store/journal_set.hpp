#pragma once
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "sentinel/store/schema.hpp"
#include "store/checks.hpp"
#include "store/journal.hpp"

namespace sentinel::store {

/// All journals of a result as one set of rows: the old ones, read once to index them, and the own
/// one, appended to. Thread-safe from start() on.
class JournalSet {
 public:
  explicit JournalSet(std::string result);

  /// Numbers and headers of the journals on disk, incomplete ones left out.
  const std::map<std::uint32_t, JournalHeader>& headers() const { return headers_; }
  /// Larger than the number of any journal on disk, complete or not.
  std::uint32_t next_number() const { return next_number_; }
  /// Indexes the journals on disk. Throws DataError where two of them disagree about a trial, or
  /// one holds what cannot be.
  void load(const RowChecks& checks);
  /// Creates the own journal. Throws EnvironmentError.
  void start(const JournalHeader& header);

  /// One frame with the records not stored yet; returns their number. Throws what `disagree` makes
  /// of a message where a stored record has another result, EnvironmentError where the disk is
  /// full; then nothing of the call is stored.
  std::uint64_t add(const std::vector<TrialRecord>& records,
                    const std::function<void(const std::string&)>& disagree);
  /// The same for rows of this session: `session` is set, disagreement is a Bug. Their audits are
  /// written before them.
  std::uint64_t append(const std::vector<TrialRecord>& records,
                       const std::vector<AuditRow>& audits);
  void add(const std::vector<AuditRow>& rows);
  /// fdatasync of the own journal if it has news.
  void sync();
  /// Deletes all journals, the own one included; damaged ones are renamed instead.
  void remove();
  static void remove(const std::string& result);

  bool has(std::uint32_t point, std::uint64_t id) const;
  std::uint64_t rows() const;
  std::uint64_t new_rows() const;
  std::uint32_t session() const { return session_; }

  /// The rows at one moment; reading it holds up nobody.
  struct Snapshot {
    std::vector<RowIndex::PageRef> pages;
    std::vector<std::string> paths;
    std::uint64_t end = 0;  // of the last journal, the growing one
    std::vector<SessionRow> sessions;
    std::vector<AuditRow> audit;  // of these rows
    std::uint64_t version = 0;

    /// In (point, id, model) order. Throws DataError, EnvironmentError.
    void each(const std::function<void(const PackedRecord&)>& visit) const;
  };
  Snapshot snapshot() const;
  /// Grows with every change.
  std::uint64_t version() const;

 private:
  using AuditKey = std::pair<std::pair<std::uint32_t, std::uint64_t>, std::uint32_t>;
  /// Seconds since 1970 as the session's start has them: the clock of the day may jump.
  double now() const;
  bool load_one(const std::string& path, SessionRow& session, const RowChecks& checks);
  void check_same(const TrialRow& row, const PackedRecord& fresh, Location stored,
                  std::unique_ptr<RecordReader>& reader,
                  const std::function<void(const std::string&)>& disagree) const;
  PackedRecord stored_record(Location stored, std::unique_ptr<RecordReader>& reader) const;
  void add_audits_locked(const std::vector<AuditRow>& rows);
  std::uint64_t add_locked(const std::vector<TrialRecord>& records, bool own,
                           const std::function<void(const std::string&)>& disagree);

  std::string result_;
  std::map<std::uint32_t, JournalHeader> headers_;
  std::uint32_t next_number_ = 0, session_ = 0;
  std::set<std::uint32_t> damaged_;  // journals with bad frames

  mutable std::mutex mutex_;
  RowIndex index_;
  std::vector<std::string> paths_;
  std::vector<SessionRow> sessions_;
  std::map<AuditKey, AuditRow> audit_;  // of rows that may not be stored: a kill came between
  std::unique_ptr<JournalWriter> writer_;
  std::chrono::steady_clock::time_point started_;
  Frame frame_;
  std::uint64_t new_rows_ = 0, version_ = 0;
};

}  // namespace sentinel::store
