#pragma once
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "sentinel/core/setting.hpp"
#include "sentinel/store/schema.hpp"

namespace sentinel {

/// Advice where a result cannot be resumed: start over, or take another file.
std::string restart_advice(Setting fresh = Setting::kFresh, Setting output = Setting::kOutput);

struct StoreOptions {
  std::string remedy = restart_advice();  // as errors say it
  bool fresh = false;  // start over: an old result is removed; any other file is a DataError
  std::chrono::seconds publish{
      30};  // no sooner than max(this, 20 x the last publication's duration)
  std::chrono::seconds lock_wait{60};    // for another process to let go of the result
  std::chrono::milliseconds sync{2000};  // fdatasync of the journal at least this often
};

/// UserError where the result at `path` has an earlier schema, so that no campaign goes on in it;
/// for those that want to know before their work. DataError where it is no result that can be read.
void require_current_schema(const std::string& path, const std::string& remedy);

/// Removes the result at `path` and its journals, as StoreOptions::fresh does; nothing where there
/// is none. DataError where the file is no result, EnvironmentError where it is locked.
void remove_result(const std::string& path);

/// The one result of a campaign on disk, on rank 0 only. Rows are appended to a journal beside the
/// result (`<result>.journal.<n>`, one per incarnation, frames {length, checksum, payload}, one
/// write() per frame) and survive a kill at any moment once append() returned; `<result>` itself is
/// a complete HDF5 file published from the journals by rename, by a thread of its own (the only one
/// that uses HDF5), so a plain reader always sees a whole file. Journals go when the finished
/// result is published.
///
/// Opening resumes: rows already there are known by `has`. Throws UserError where the result
/// belongs to another job (naming what differs), was begun with an earlier schema, or a file of
/// others is called like a working file of it, DataError where the result or a journal is damaged,
/// EnvironmentError where it is locked, not writable or the disk is full. A file that somebody puts
/// in the result's place is kept: the next publication is an EnvironmentError.
class ResultStore {
 public:
  ResultStore(const std::string& path, ResultInfo info, SessionInfo session,
              const StoreOptions& options = {});
  ResultStore(ResultStore&&) noexcept;
  ~ResultStore();

  /// Whether a row of the trial, of any model, is stored. (append() stores a chunk whole or not at
  /// all, so one model's row stands for those of all models the point is planned for.)
  bool has(std::uint32_t point, std::uint64_t id) const;
  /// Rows stored so far, and by this incarnation.
  std::uint64_t rows() const;
  std::uint64_t new_rows() const;
  std::uint32_t session() const;
  /// Every stored row, in (point, id, model) order.
  void for_each(const std::function<void(const TrialRow&)>& visit) const;

  /// Acknowledges records: one frame, one write(). Records already stored must be equal in all but
  /// wall_us, rank, session, path and audited (Bug otherwise) and are dropped. Starts a publication
  /// in the background when one is due; errors of a background publication are thrown here or in
  /// finish(). `audits`: of these records; in a frame before theirs, so that no record is ever
  /// stored as audited without its audit, and an audit counts only where its record is stored.
  void append(const std::vector<TrialRecord>& records, const std::vector<AuditRow>& audits = {});
  /// Those of all stored rows, in (point, id, model) order.
  std::vector<AuditRow> audits() const;
  /// Replaces what the next publication writes beside rows.
  void set_findings(Findings findings);

  /// Syncs, publishes, closes. `complete`: every planned trial is stored; then the journals are
  /// removed.
  void finish(bool complete);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sentinel
