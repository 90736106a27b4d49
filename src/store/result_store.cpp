#include "sentinel/store/result_store.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <filesystem>
#include <mutex>
#include <optional>
#include <thread>

#include "sentinel/core/error.hpp"
#include "sentinel/core/file.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/store/result_file.hpp"
#include "store/background.hpp"
#include "store/journal_set.hpp"
#include "store/lock.hpp"
#include "store/record_stream.hpp"
#include "store/result_reader.hpp"
#include "store/result_writer.hpp"
#include "store/working_files.hpp"

namespace sentinel {
namespace {

namespace fs = std::filesystem;

/// A session of a larger number would make a result that nobody reads.
void require_free(const std::string& path, std::uint32_t number, const std::string& remedy) {
  if (number > store::kMostSessions)
    throw DataError(path, "the result or a journal of it has session " +
                              std::to_string(store::kMostSessions) +
                              ", the last number there is; move the journal away, or " + remedy);
}

/// Who starts over in a wrong file must not lose it.
void check_is_result(const std::string& path) {
  try {
    store::read_result_head(path);
  } catch (const DataError&) {
    throw DataError(path, "is no result of sentinelnn that can be read, so " +
                              spelled(Setting::kFresh) + " does not remove it; give another " +
                              spelled(Setting::kOutput) + ", or remove the file");
  }
}

/// Rows of earlier layouts lack what rows of this one have, and trials of both would be mixed.
[[noreturn]] void refuse_earlier(const std::string& path, const std::string& layout,
                                 const std::string& remedy) {
  throw UserError(path + " was begun by an earlier version of sentinelnn (" + layout +
                  "); finish it with that version, or " + remedy);
}

void start_over(const std::string& path) {
  if (fs::exists(path)) check_is_result(path);
  spdlog::warn("{}: removing {} and its journals", spelled(Setting::kFresh), path);
  store::JournalSet::remove(path);
  std::error_code error;
  if (!fs::remove(path, error) && error)
    throw EnvironmentError("cannot remove " + path + ": " + error.message());
}

}  // namespace

struct ResultStore::State {
  State(const std::string& result, ResultInfo result_info, const SessionInfo& session,
        const StoreOptions& store_options);

  void resume(const SessionInfo& session);
  void check_head(const store::ResultHead& head) const;
  void import(const store::ResultHead& head, const store::RowChecks& checks);
  void publish(bool complete);
  std::vector<SessionRow> all_sessions(std::vector<SessionRow> from_journals) const;

  std::string path;
  ResultInfo info;
  StoreOptions options;
  std::vector<SessionRow> old_sessions;  // of the result found at opening
  std::mutex findings_mutex;
  Findings findings;
  std::uint64_t findings_version = 0;
  std::pair<std::uint64_t, std::uint64_t> published{UINT64_MAX, UINT64_MAX};
  bool finished = false;

  // Destroyed in reverse: the threads end first, the lock goes last.
  store::ResultLock lock;
  std::optional<store::OwnFile> file;
  std::optional<store::JournalSet> journals;
  std::optional<store::Keeper> keeper;
  std::optional<store::Publisher> publisher;
};

ResultStore::State::State(const std::string& result, ResultInfo result_info,
                          const SessionInfo& session, const StoreOptions& store_options)
    : path(link_target(result)),  // one lock and set of journals, whatever name it is called by
      info(std::move(result_info)),
      options(store_options),
      lock(path, options.lock_wait) {
  // From here on the lease is renewed, however long reading takes.
  keeper.emplace([this] { lock.heartbeat(); }, options.sync);
  const bool journals_there = !store::journal_numbers(path).empty();
  if (options.fresh) store::remove_temporaries(path, info.fingerprint);
  if (options.fresh && (fs::exists(path) || journals_there)) start_over(path);
  resume(session);
}

void ResultStore::State::resume(const SessionInfo& session) {
  file.emplace(path);
  journals.emplace(path);
  for (const auto& [number, header] : journals->headers()) {
    check_fingerprint(path, header.fingerprint, header.parts, info, options.remedy);
    if (header.version < store::kJournalVersion)
      refuse_earlier(path, "journal version " + std::to_string(header.version), options.remedy);
  }
  std::optional<store::ResultHead> head;
  if (fs::exists(path)) head = store::read_result_head(path);
  if (head) check_head(*head);
  store::remove_temporaries(path, info.fingerprint);
  std::uint32_t number = journals->next_number();
  std::vector<std::uint32_t> sessions;
  for (const auto& [journal, header] : journals->headers()) {
    sessions.push_back(header.session.number);
    number = std::max(number, header.session.number + 1);
  }
  if (head)
    for (const SessionRow& old : head->sessions) {
      sessions.push_back(old.number);
      number = std::max(number, old.number + 1);
    }
  require_free(path, number, options.remedy);
  store::RowChecks checks(info, std::move(sessions));
  for (const auto& [journal, header] : journals->headers())
    if (!header.plan.empty()) checks.set_plan(header.session.number, header.plan);
  journals->load(checks);
  const double now = store::unix_time();
  journals->start({info.fingerprint,
                   info.fingerprint_parts,
                   {number, now, now, session.ranks, session.host, 0, session.info},
                   store::planned_ids(info)});
  keeper->sync_by([this] { journals->sync(); });
  if (head) import(*head, checks);
  if (!head) publish(false);
  publisher.emplace([this] { publish(false); }, options.publish);
  // A result that says it is complete may not be for the job as it is now.
  if (head && head->complete) publisher->request();
}

/// Whether the result found is of this campaign, by what it says and by what it holds.
void ResultStore::State::check_head(const store::ResultHead& head) const {
  check_fingerprint(path, head.info.fingerprint, head.info.fingerprint_parts, info, options.remedy);
  if (head.info.schema < kSchemaVersion) refuse_earlier(path, "schema 1", options.remedy);
  if (head.info.models.size() != info.models.size() ||
      head.info.points.size() != info.points.size())
    throw DataError(path,
                    "says that it is of this job, and holds other models or points; the file is "
                    "damaged: " +
                        options.remedy);
}

void ResultStore::State::import(const store::ResultHead& head, const store::RowChecks& checks) {
  old_sessions = head.sessions;
  findings = head.findings;
  // What was found stays; what is planned is this session's, or its first rows may lie beyond.
  findings.plans.clear();
  findings.trials.clear();
  journals->add(head.audit);
  store::stream_result(path, [&](const std::vector<TrialRecord>& records) {
    for (const TrialRecord& record : records)
      checks.check({path, "trial", record.row.id}, record.row);
    journals->add(records, [&](const std::string& message) { throw DataError(path, message); });
  });
}

std::vector<SessionRow> ResultStore::State::all_sessions(
    std::vector<SessionRow> from_journals) const {
  std::map<std::uint32_t, SessionRow> all;
  for (SessionRow& session : from_journals) all.emplace(session.number, std::move(session));
  for (const SessionRow& session : old_sessions) all.emplace(session.number, session);
  std::vector<SessionRow> sessions;
  for (auto& [number, session] : all) sessions.push_back(std::move(session));
  return sessions;
}

void ResultStore::State::publish(bool complete) {
  lock.heartbeat();
  store::ResultContents contents;
  contents.before_rename = [this] { lock.heartbeat(); };
  std::pair<std::uint64_t, std::uint64_t> version;
  {
    const std::lock_guard guard(findings_mutex);
    contents.findings = findings;
    version.second = findings_version;
  }
  const auto snapshot = journals->snapshot();
  version.first = snapshot.version;
  if (!complete && version == published) return;
  contents.complete = complete;
  contents.sessions = all_sessions(snapshot.sessions);
  contents.audit = snapshot.audit;
  contents.each_record = [&](const auto& visit) { snapshot.each(visit); };
  store::publish_result(*file, info, contents);
  published = version;
}

void remove_result(const std::string& path) {
  const std::string target = link_target(path);
  const store::ResultLock lock(target, StoreOptions().lock_wait);
  if (fs::exists(target) || !store::journal_numbers(target).empty()) start_over(target);
}

std::string restart_advice(Setting fresh, Setting output) {
  return "give " + spelled(fresh) + " to start over, or another " + spelled(output);
}

void require_current_schema(const std::string& path, const std::string& remedy) {
  if (!fs::exists(path)) return;
  const h5::Guard guard;
  if (store::schema_of(store::open_result(path)) < kSchemaVersion)
    refuse_earlier(path, "schema 1", remedy);
}

ResultStore::ResultStore(const std::string& path, ResultInfo info, SessionInfo session,
                         const StoreOptions& options)
    : state_(std::make_unique<State>(path, std::move(info), session, options)) {}

ResultStore::ResultStore(ResultStore&&) noexcept = default;
ResultStore::~ResultStore() = default;

bool ResultStore::has(std::uint32_t point, std::uint64_t id) const {
  return state_->journals->has(point, id);
}

std::uint64_t ResultStore::rows() const {
  return state_->journals->rows();
}

std::uint64_t ResultStore::new_rows() const {
  return state_->journals->new_rows();
}

std::uint32_t ResultStore::session() const {
  return state_->journals->session();
}

void ResultStore::for_each(const std::function<void(const TrialRow&)>& visit) const {
  state_->journals->snapshot().each(
      [&](const store::PackedRecord& record) { visit(record.row()); });
}

std::vector<AuditRow> ResultStore::audits() const {
  return state_->journals->snapshot().audit;
}

void ResultStore::append(const std::vector<TrialRecord>& records,
                         const std::vector<AuditRow>& audits) {
  if (state_->finished) throw Bug("append to a finished result " + state_->path);
  state_->keeper->rethrow();
  state_->publisher->rethrow();
  state_->journals->append(records, audits);
  state_->publisher->request_if_due();
}

void ResultStore::set_findings(Findings findings) {
  const std::lock_guard guard(state_->findings_mutex);
  state_->findings = std::move(findings);
  ++state_->findings_version;
}

void ResultStore::finish(bool complete) {
  State& state = *state_;
  if (state.finished) return;
  state.publisher->stop();
  state.keeper->rethrow();
  state.journals->sync();
  // A failed earlier publication does not matter once this one has succeeded.
  state.publish(complete);
  if (complete) {
    state.lock.heartbeat();  // journals of a new holder are not ours to remove
    state.journals->remove();
  }
  state.finished = true;
  state.keeper->stop();
  state.lock.release();
}

}  // namespace sentinel
