#include "store/journal_set.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "sentinel/core/error.hpp"
#include "sentinel/core/setting.hpp"
#include "store/working_files.hpp"

namespace sentinel::store {
namespace {

namespace fs = std::filesystem;
constexpr std::size_t kMaxJournals = 65535;  // Location has 16 bits for them

/// Not taken yet: an earlier one may have been kept.
std::string name_to_keep(const std::string& journal) {
  std::string name = journal + ".damaged";
  std::error_code none;
  for (int n = 2; fs::exists(fs::symlink_status(name, none)); ++n)
    name = journal + ".damaged." + std::to_string(n);
  return name;
}

RowKey key_of(const TrialRow& row) {
  return {row.point, row.id, row.model};
}

/// The checksum of its frame vouches for what was written, not for who wrote it.
void check_record(const Place& at, const PackedRecord& record, const TrialRow& row,
                  const RowChecks& checks) {
  checks.check(at, row);
  if (stored_faults(row) != record.faults())
    throw DataError(std::string(at.path), at.row,
                    name_of(row) + " has another number of faults stored; the file is damaged");
  const std::byte* fault = record.fault_bytes();
  for (std::uint32_t i = 0; i < record.faults(); ++i, fault += kFaultBytes)
    checks.check(at, row, unpack<FaultRow>(fault));
}

}  // namespace

JournalSet::JournalSet(std::string result) : result_(std::move(result)) {
  for (const std::uint32_t number : journal_numbers(result_)) {
    next_number_ = number + 1;
    const std::string path = journal_path(result_, number);
    if (auto header = read_journal_header(path))
      headers_[number] = std::move(*header);
    else
      spdlog::warn("{}: the header is incomplete, so no trial was acknowledged in it", path);
  }
}

void JournalSet::load(const RowChecks& checks) {
  if (headers_.size() >= kMaxJournals)
    throw UserError(result_ + " has more than 65535 journals, too many to read; give another " +
                    spelled(Setting::kOutput) + ", or " + spelled(Setting::kFresh) +
                    " to start over");
  for (const auto& [number, header] : headers_) {
    paths_.push_back(journal_path(result_, number));
    SessionRow session = header.session;
    if (load_one(paths_.back(), session, checks)) damaged_.insert(number);
    sessions_.push_back(std::move(session));
  }
}

/// Whether the journal is damaged.
bool JournalSet::load_one(const std::string& path, SessionRow& session, const RowChecks& checks) {
  const std::size_t journal = paths_.size() - 1;
  std::unique_ptr<RecordReader> reader;
  const auto on_record = [&](std::uint64_t offset, const PackedRecord& record) {
    const TrialRow row = record.row();
    check_record({path, "the record at byte", offset}, record, row, checks);
    const Location stored = index_.find(key_of(row));
    if (!stored.none())
      return check_same(row, record, stored, reader, [&](const std::string& message) {
        throw DataError(path, offset, message);
      });
    // Rows of other sessions were imported from a published result.
    if (row.session == session.number && !index_.has(row.point, row.id)) ++session.new_trials;
    index_.insert(key_of(row), Location(journal, offset));
  };
  const auto on_audit = [&](std::uint64_t offset, const AuditRow& row) {
    checks.check({path, "the audit at byte", offset}, row);
    audit_.emplace(AuditKey{{row.point, row.id}, row.model}, row);
  };
  const auto has_audit = [&](const PackedRecord& record) {
    const TrialRow row = record.row();
    return row.audited == 0 || audit_.count(AuditKey{{row.point, row.id}, row.model}) > 0;
  };
  const JournalScan scan = scan_journal(path, {on_record, on_audit, has_audit});
  session.ended = std::max(session.ended, scan.last);
  return scan.damaged;
}

PackedRecord JournalSet::stored_record(Location stored,
                                       std::unique_ptr<RecordReader>& reader) const {
  // Records of the frame under construction are not in the file yet.
  if (writer_ && stored.journal() + 1 == paths_.size() && stored.offset() >= writer_->size())
    return frame_.at(static_cast<std::size_t>(stored.offset() - writer_->size()));
  if (!reader) reader = std::make_unique<RecordReader>(paths_);
  return reader->at(stored);
}

void JournalSet::check_same(const TrialRow& row, const PackedRecord& fresh, Location stored,
                            std::unique_ptr<RecordReader>& reader,
                            const std::function<void(const std::string&)>& disagree) const {
  if (same_result(fresh, stored_record(stored, reader))) return;
  disagree(name_of(row) + " has two different results (the other one is stored in " +
           paths_[stored.journal()] + " at byte " + std::to_string(stored.offset()) + ")");
}

void JournalSet::start(const JournalHeader& header) {
  const std::lock_guard lock(mutex_);
  session_ = header.session.number;
  started_ = std::chrono::steady_clock::now();
  const std::string path = journal_path(result_, session_);
  writer_ = std::make_unique<JournalWriter>(path, header);
  paths_.push_back(path);
  sessions_.push_back(header.session);
}

double JournalSet::now() const {
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - started_;
  return sessions_.back().started + elapsed.count();
}

std::uint64_t JournalSet::append(const std::vector<TrialRecord>& records,
                                 const std::vector<AuditRow>& audits) {
  const std::lock_guard lock(mutex_);
  add_audits_locked(audits);
  const std::uint64_t added =
      add_locked(records, true, [](const std::string& message) { throw Bug(message); });
  new_rows_ += added;
  return added;
}

std::uint64_t JournalSet::add(const std::vector<TrialRecord>& records,
                              const std::function<void(const std::string&)>& disagree) {
  const std::lock_guard lock(mutex_);
  return add_locked(records, false, disagree);
}

std::uint64_t JournalSet::add_locked(const std::vector<TrialRecord>& records, bool own,
                                     const std::function<void(const std::string&)>& disagree) {
  std::vector<RowKey> added;
  std::unique_ptr<RecordReader> reader;
  std::vector<std::byte> scratch;
  std::uint64_t new_trials = 0;
  const double time = now();
  frame_.begin(Frame::Kind::kRecords, time);
  try {
    for (const TrialRecord& record : records) {
      const Location stored = index_.find(key_of(record.row));
      if (!stored.none()) {
        scratch.clear();
        pack_record(record.row, record.faults, scratch);
        check_same(record.row, {scratch.data()}, stored, reader, disagree);
        continue;
      }
      TrialRow row = record.row;
      if (own) row.session = session_;
      if (own && !index_.has(row.point, row.id)) ++new_trials;
      const std::uint64_t offset = writer_->size() + frame_.add(row, record.faults);
      index_.insert(key_of(row), Location(paths_.size() - 1, offset));
      added.push_back(key_of(row));
    }
    if (!frame_.empty()) writer_->append(frame_.seal());
  } catch (...) {
    for (const RowKey& key : added) index_.erase(key);
    throw;
  }
  if (!added.empty()) ++version_;
  if (own && !added.empty()) sessions_.back().ended = time;
  sessions_.back().new_trials += new_trials;
  return added.size();
}

void JournalSet::add(const std::vector<AuditRow>& rows) {
  const std::lock_guard lock(mutex_);
  add_audits_locked(rows);
}

void JournalSet::add_audits_locked(const std::vector<AuditRow>& rows) {
  frame_.begin(Frame::Kind::kAudits, now());
  std::map<AuditKey, AuditRow> added;
  for (const AuditRow& row : rows) {
    const AuditKey key{{row.point, row.id}, row.model};
    if (audit_.count(key) == 0 && added.emplace(key, row).second) frame_.add(row);
  }
  if (frame_.empty()) return;
  writer_->append(frame_.seal());
  audit_.merge(added);
  ++version_;
}

void JournalSet::sync() {
  if (writer_) writer_->sync();
}

void JournalSet::remove() {
  for (const std::uint32_t number : damaged_) {
    const std::string path = journal_path(result_, number), kept = name_to_keep(path);
    if (std::rename(path.c_str(), kept.c_str()) != 0) throw_errno("cannot rename to", kept);
    spdlog::warn("{} was damaged; it is kept as {}", path, kept);
  }
  damaged_.clear();
  remove(result_);
}

void JournalSet::remove(const std::string& result) {
  for (const std::uint32_t number : journal_numbers(result)) {
    const std::string path = journal_path(result, number);
    std::error_code error;
    if (!fs::remove(path, error) && error)
      throw EnvironmentError("cannot remove " + path + ": " + error.message());
  }
}

bool JournalSet::has(std::uint32_t point, std::uint64_t id) const {
  const std::lock_guard lock(mutex_);
  return index_.has(point, id);
}

std::uint64_t JournalSet::rows() const {
  const std::lock_guard lock(mutex_);
  return index_.size();
}

std::uint64_t JournalSet::new_rows() const {
  const std::lock_guard lock(mutex_);
  return new_rows_;
}

std::uint64_t JournalSet::version() const {
  const std::lock_guard lock(mutex_);
  return version_;
}

JournalSet::Snapshot JournalSet::snapshot() const {
  const std::lock_guard lock(mutex_);
  Snapshot snapshot{index_.snapshot(), paths_, writer_ ? writer_->size() : 0,
                    sessions_,         {},     version_};
  snapshot.audit.reserve(audit_.size());
  for (const auto& [key, row] : audit_)
    if (!index_.find({row.point, row.id, row.model}).none()) snapshot.audit.push_back(row);
  return snapshot;
}

void JournalSet::Snapshot::each(const std::function<void(const PackedRecord&)>& visit) const {
  RecordReader reader(paths);
  for (std::size_t begin = 0, last = 0; begin < pages.size(); begin = last) {
    // The pages of all models of one range of ids stand side by side.
    for (last = begin; last < pages.size() && pages[last].point == pages[begin].point &&
                       pages[last].first_id == pages[begin].first_id;)
      ++last;
    for (std::size_t slot = 0; slot < RowIndex::kPageRows; ++slot)
      for (std::size_t p = begin; p < last; ++p) {
        const auto at =
            Location::from_bits(pages[p].page->slots[slot].load(std::memory_order_acquire));
        const bool later = at.journal() + 1 == paths.size() && at.offset() >= end;
        if (!at.none() && !later) visit(reader.at(at));
      }
  }
}

}  // namespace sentinel::store
