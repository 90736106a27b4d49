#include <cstring>

#include <gmock/gmock.h>

#include "sentinel/core/error.hpp"
#include "store_fixture.hpp"

namespace sentinel {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

/// A store that is dropped without finish(): what a crash leaves, lock file apart.
void crash_after(const std::string& path, const std::set<std::uint64_t>& ids) {
  ResultStore store = open_store(path);
  for (const std::uint64_t id : ids)
    if (!store.has(0, id)) store.append(sample_trial(0, id));
}

TEST(Journal, RowsSurviveWithoutFinish) {
  const TempDir dir;
  const std::string path = dir / "r.h5";
  crash_after(path, range(5));
  expect_trials(path, {});  // published empty at opening, readable all the time
  ResultStore store = open_store(path);
  EXPECT_EQ(store.rows(), 10u);
  EXPECT_EQ(store.new_rows(), 0u);
  EXPECT_EQ(store.session(), 1u);
  EXPECT_TRUE(store.has(0, 4));
  EXPECT_FALSE(store.has(0, 5));
  EXPECT_FALSE(store.has(1, 4));
  store.append(sample_trial(0, 5));
  EXPECT_EQ(store.new_rows(), 2u);
  store.finish(true);
  expect_trials(path, range(6));
  const ResultFile result = read_result(path);
  EXPECT_EQ(result.trials.front().session, 0u);
  EXPECT_EQ(result.trials.back().session, 1u);
  ASSERT_EQ(result.sessions.size(), 2u);
  EXPECT_EQ(result.sessions[0].new_trials, 5u);
  EXPECT_EQ(result.sessions[1].new_trials, 1u);
  EXPECT_THAT(files_in(dir.path()), ElementsAre("r.h5"));
}

TEST(Journal, ForEachGoesInOrder) {
  const TempDir dir;
  ResultStore store = open_store(dir / "r.h5");
  store.append({sample_record(1, 0, 1)});
  for (const std::uint64_t id : {5000U, 7U, 1023U, 1024U}) store.append(sample_trial(0, id));
  std::vector<std::tuple<std::uint32_t, std::uint64_t, std::uint32_t>> keys;
  store.for_each([&](const TrialRow& row) { keys.emplace_back(row.point, row.id, row.model); });
  EXPECT_EQ(keys.size(), 9u);
  EXPECT_TRUE(std::is_sorted(keys.begin(), keys.end()));
}

/// Cut anywhere, a journal gives exactly its complete frames.
TEST(Journal, TruncatedAtEveryByte) {
  const Quiet quiet;
  const TempDir dir;
  const std::string path = dir / "r.h5", journal = path + ".journal.0";
  std::vector<std::uint64_t> ends;  // of the frames
  {
    ResultStore store = open_store(path);
    ends.push_back(fs::file_size(journal));
    for (std::uint64_t id = 0; id < 4; ++id) {
      store.append(sample_trial(0, id));
      ends.push_back(fs::file_size(journal));
    }
  }
  const Bytes whole = read_file(journal), result = read_file(path);
  ASSERT_EQ(whole.size(), ends.back());
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const TempDir copy;
    write_file_atomic(copy / "r.h5", result);
    write_file_atomic(copy / "r.h5.journal.0", whole.data(), size);
    const ResultStore store = open_store(copy / "r.h5");
    std::uint64_t complete = 0;
    while (complete < 4 && ends[complete + 1] <= size) ++complete;
    ASSERT_EQ(store.rows(), 2 * complete) << size;
    for (std::uint64_t id = 0; id < 4; ++id) ASSERT_EQ(store.has(0, id), id < complete) << size;
  }
}

/// A journal of three trials, and where each of its frames ends; the first entry is the header's
/// end.
struct ThreeFrames {
  Bytes journal, result;
  std::vector<std::uint64_t> ends;
};

ThreeFrames three_frames() {
  const TempDir dir;
  const std::string path = dir / "r.h5", journal = path + ".journal.0";
  ThreeFrames made;
  ResultStore store = open_store(path);
  made.ends.push_back(fs::file_size(journal));
  for (std::uint64_t id = 0; id < 3; ++id) {
    store.append(sample_trial(0, id));
    made.ends.push_back(fs::file_size(journal));
  }
  made.journal = read_file(journal);
  made.result = read_file(path);
  return made;
}

void put(const TempDir& dir, const ThreeFrames& made, const Bytes& journal) {
  write_file_atomic(dir / "r.h5", made.result);
  write_file_atomic(dir / "r.h5.journal.0", journal);
}

TEST(Journal, AFlippedByteCostsOneFrame) {
  const Quiet quiet;
  const ThreeFrames made = three_frames();
  for (std::size_t at = made.ends[0]; at < made.journal.size(); at += 5) {
    const TempDir dir;
    Bytes damaged = made.journal;
    damaged[at] ^= std::byte{0x10};
    put(dir, made, damaged);
    ResultStore store = open_store(dir / "r.h5");
    for (std::uint64_t id = 0; id < 3; ++id)
      ASSERT_EQ(store.has(0, id), at < made.ends[id] || at >= made.ends[id + 1]) << at;
    for (std::uint64_t id = 0; id < 3; ++id)
      if (!store.has(0, id)) store.append(sample_trial(0, id));
    store.finish(true);
    expect_trials(dir / "r.h5", range(3));
    // The last frame may have been cut by a crash; damage before it is kept to look at.
    const std::string kept = dir / "r.h5.journal.0.damaged";
    ASSERT_EQ(fs::exists(kept), at < made.ends[2]) << at;
    if (at < made.ends[2]) {
      ASSERT_EQ(read_file(kept), damaged);
    }
  }
}

TEST(Journal, AHeaderWithAFlippedByteIsKept) {
  const Quiet quiet;
  const ThreeFrames made = three_frames();
  for (std::size_t at = 0; at < made.ends[0]; ++at) {
    const TempDir dir;
    Bytes damaged = made.journal;
    damaged[at] ^= std::byte{0x01};
    put(dir, made, damaged);
    EXPECT_THROW(open_store(dir / "r.h5"), Error) << at;
    ASSERT_EQ(read_file(dir / "r.h5.journal.0"), damaged);
    ASSERT_THAT(files_in(dir.path()), ElementsAre("r.h5", "r.h5.journal.0"));
  }
}

TEST(Journal, ALostSectorCostsItsFrames) {
  const Quiet quiet;
  const ThreeFrames made = three_frames();
  Bytes damaged = made.journal;
  std::fill(damaged.begin() + static_cast<std::ptrdiff_t>(made.ends[0] + 3),
            damaged.begin() + static_cast<std::ptrdiff_t>(made.ends[1] + 9), std::byte{0});
  const TempDir dir;
  put(dir, made, damaged);
  write_file_atomic(dir / "r.h5.journal.0.damaged", std::string_view("kept earlier"));
  ResultStore store = open_store(dir / "r.h5");
  EXPECT_FALSE(store.has(0, 0) || store.has(0, 1));
  EXPECT_TRUE(store.has(0, 2));
  store.finish(true);
  EXPECT_EQ(read_file(dir / "r.h5.journal.0.damaged.2"), damaged);
  EXPECT_EQ(read_file(dir / "r.h5.journal.0.damaged").size(), 12u);
}

std::pair<std::vector<TrialRecord>, std::vector<AuditRow>> audited_trial(std::uint32_t point,
                                                                         std::uint64_t id) {
  std::vector<TrialRecord> records = sample_trial(point, id);
  std::vector<AuditRow> audits;
  for (TrialRecord& record : records) {
    record.row.audited = 1;
    audits.push_back(sample_audit(point, id, record.row.model));
  }
  return {records, audits};
}

// Rows that say they were audited are not used without their audits, which a damaged frame held.
TEST(Journal, ADamagedFrameOfAuditsCostsItsTrials) {
  const Quiet quiet;
  const TempDir dir;
  const std::string path = dir / "r.h5", journal = path + ".journal.0";
  const auto [chunk, audits] = audited_trial(0, 1);
  std::uint64_t begin = 0;  // of the chunk
  {
    ResultStore store = open_store(path);
    store.append(sample_trial(0, 0));
    begin = fs::file_size(journal);
    store.append(chunk, audits);
    store.append(sample_trial(0, 2));
  }
  Bytes damaged = read_file(journal);
  damaged[begin + 20] ^= std::byte{1};
  write_file_atomic(journal, damaged);
  ResultStore store = open_store(path);
  EXPECT_TRUE(store.has(0, 0) && store.has(0, 2));
  EXPECT_FALSE(store.has(0, 1));
  store.append(chunk, audits);
  store.finish(true);
  EXPECT_EQ(read_result(path).audit.size(), 2u);
}

TEST(Journal, DuplicatesMustBeEqual) {
  const TempDir dir;
  const std::string path = dir / "r.h5";
  ResultStore store = open_store(path);
  store.append(sample_trial(0, 2));
  // Another rank, time, path and session: the same result.
  auto again = sample_trial(0, 2);
  again[0].row.rank = 9;
  again[0].row.wall_us = 1;
  again[0].row.path = 0;
  again[0].row.audited = 1;
  again[0].row.session = 77;
  store.append(again);
  EXPECT_EQ(store.rows(), 2u);
  EXPECT_EQ(store.new_rows(), 2u);
  again[1].row.correct += 1;
  EXPECT_THAT(message_of<Bug>([&] { store.append(again); }),
              HasSubstr("trial 2 of point 0, model 1"));
  auto other_fault = sample_trial(0, 2);
  other_fault[0].faults[0].bit ^= 1;
  EXPECT_THROW(store.append(other_fault), Bug);
  // Within one call, and then nothing of the call is stored.
  auto twice = sample_record(0, 3, 0);
  twice.row.due += 1;
  EXPECT_THROW(store.append({sample_record(0, 3, 0), twice}), Bug);
  EXPECT_FALSE(store.has(0, 3));
  store.append({sample_record(0, 3, 0), sample_record(0, 3, 0)});
  EXPECT_EQ(store.rows(), 3u);
}

TEST(Journal, JournalsThatDisagreeAreAnError) {
  const TempDir a, b;
  crash_after(a / "r.h5", {1, 2});
  {
    ResultStore store = open_store(b / "r.h5");
    auto other = sample_trial(0, 2);
    other[0].row.due += 1, other[0].row.masked -= 1;
    store.append(sample_trial(0, 1));
    store.append(other);
  }
  fs::copy_file(b / "r.h5.journal.0", a / "r.h5.journal.1");
  EXPECT_THAT(message_of<DataError>([&] { open_store(a / "r.h5"); }),
              HasSubstr("trial 2 of point 0, model 0"));
}

TEST(Journal, EqualDuplicatesAcrossJournalsCountOnce) {
  const TempDir dir;
  const std::string path = dir / "r.h5";
  crash_after(path, range(3));
  fs::copy_file(path + ".journal.0", path + ".journal.5");
  ResultStore store = open_store(path);
  EXPECT_EQ(store.rows(), 6u);
  EXPECT_EQ(store.session(), 6u);
  store.finish(true);
  expect_trials(path, range(3));
}

// Whatever is left of a chunk with audits, whose frame comes first, resuming gives every audited
// trial its one audit.
TEST(Journal, AChunkWithAuditsCutAnywhere) {
  const TempDir dir;
  const std::string path = dir / "r.h5", journal = path + ".journal.0";
  const auto [chunk, audits] = audited_trial(0, 1);
  std::uint64_t begin = 0;  // of the chunk
  {
    ResultStore store = open_store(path);
    store.append(sample_trial(0, 0));
    begin = fs::file_size(journal);
    store.append(chunk, audits);
    EXPECT_EQ(store.audits().size(), 2u);
  }
  const Bytes whole = read_file(journal);
  const Quiet quiet;
  std::set<std::size_t> first;  // audits that were there at once
  std::uint32_t length = 0;     // of the payload of the audits' frame
  std::memcpy(&length, whole.data() + begin, sizeof(length));
  const std::uint64_t between = begin + 12 + length, size = whole.size();
  for (const std::uint64_t end :
       {begin, begin + 5, between - 1, between, between + 1, size - 1, size}) {
    const TempDir other;
    write_file_atomic(other / "r.h5.journal.0",
                      Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(end)));
    ResultStore store = open_store(other / "r.h5");
    // Never a row without its audit, nor an audit without its row.
    ASSERT_EQ(store.audits().size(), store.has(0, 1) ? 2u : 0u) << end;
    first.insert(store.audits().size());
    if (!store.has(0, 1)) store.append(chunk, audits);
    store.finish(true);
    const ResultFile result = read_result(other / "r.h5");
    ASSERT_EQ(result.audit.size(), 2u) << end;
    for (std::size_t m = 0; m < 2; ++m) ASSERT_EQ(content(result.audit[m]), content(audits[m]));
    for (const TrialRow& row : result.trials) ASSERT_EQ(row.audited, row.id == 1 ? 1 : 0);
  }
  EXPECT_EQ(first, (std::set<std::size_t>{0, 2}));
}

TEST(Resume, AnExtendedResultPublishesItsOwnPlanBeforeItsFirstFindings) {
  const TempDir dir;
  const std::string path = dir / "r.h5";
  ResultInfo info = sample_info();
  for (const std::uint64_t trials : {1, 2}) {
    info.points[0].trials = trials;
    ResultStore store = open_store(path, quick_options(), info);
    store.append(sample_trial(0, trials - 1));
    Findings findings;
    findings.trials = {trials, info.points[1].trials};
    if (trials == 1) store.set_findings(findings);
    store.finish(trials == 1);  // the second is stopped before it has any findings
  }
  expect_trials(path, range(2));
  EXPECT_EQ(read_result(path).info.points[0].trials, 2u);
}

TEST(Resume, AFinishedResultCanBeExtended) {
  const TempDir dir;
  const std::string path = dir / "r.h5";
  {
    ResultStore store = open_store(path);
    for (std::uint64_t id = 0; id < 3; ++id)
      store.append(sample_trial(0, id), id == 1 ? std::vector<AuditRow>{sample_audit(0, 1, 0)}
                                                : std::vector<AuditRow>{});
    Findings findings;
    findings.estimates = {{0, 0, -1, "due", 0.5, 0.4, 0.6, 0.95, "t over trials", 3}};
    store.set_findings(findings);
    store.finish(true);
  }
  ASSERT_THAT(files_in(dir.path()), ElementsAre("r.h5"));
  crash_after(path, range(4));  // imports, appends, dies
  ResultStore store = open_store(path);
  EXPECT_EQ(store.session(), 2u);
  EXPECT_EQ(store.rows(), 8u);
  store.append(sample_trial(0, 4));
  store.finish(true);
  expect_trials(path, range(5));
  const ResultFile result = read_result(path);
  ASSERT_EQ(result.sessions.size(), 3u);
  EXPECT_EQ(result.sessions[0].new_trials, 3u);
  EXPECT_EQ(result.sessions[1].new_trials, 1u);
  EXPECT_EQ(result.sessions[2].new_trials, 1u);
  EXPECT_EQ(result.trials[0].session, 0u);
  EXPECT_EQ(result.trials[6].session, 1u);
  EXPECT_EQ(result.trials[8].session, 2u);
  EXPECT_EQ(result.audit.size(), 1u);
  EXPECT_EQ(result.estimates.size(), 1u);
  EXPECT_THAT(files_in(dir.path()), ElementsAre("r.h5"));
}

TEST(Resume, ResultAndJournalsAreUnited) {
  const TempDir dir;
  const std::string path = dir / "r.h5";
  crash_after(path, range(3));
  open_store(path).finish(false);  // published, journals kept
  expect_trials(path, range(3));
  crash_after(path, range(5));
  fs::remove(path + ".journal.0");  // its rows are in the result only
  ResultStore store = open_store(path);
  EXPECT_EQ(store.rows(), 10u);
  store.finish(true);
  expect_trials(path, range(5));
}

TEST(Resume, TheNameOfANetworkMakesNoOtherJob) {
  using Parts = std::map<std::string, std::string>;
  const auto accepted = [](const Parts& stored, const Parts& wanted) {
    ResultInfo info;
    info.fingerprint = "wanted";
    info.fingerprint_parts = wanted;
    try {
      check_fingerprint("r.h5", "stored", stored, info, "");
      return true;
    } catch (const UserError&) {
      return false;
    }
  };
  const Parts stored = {{"model 0 unprotected", "a"},
                        {"model 1 hardened", "b"},
                        {"recipe of hardened", "r"},
                        {"seed", "7"}};
  Parts renamed = {{"model 0 net", "a"},
                   {"model 1 pruned+hardened", "b"},
                   {"recipe of pruned+hardened", "r"},
                   {"seed", "7"}};
  EXPECT_TRUE(accepted(stored, renamed));
  EXPECT_FALSE(accepted({}, {})) << "without parts nothing is known";
  for (const char* part :
       {"model 0 net", "model 1 pruned+hardened", "recipe of pruned+hardened", "seed"}) {
    Parts other = renamed;
    other[part] = "other";
    EXPECT_FALSE(accepted(stored, other)) << part;
    other.erase(part);
    EXPECT_FALSE(accepted(stored, other)) << part;
  }
  // The same networks in another order are other rows.
  EXPECT_FALSE(
      accepted({{"model 0 a", "1"}, {"model 1 b", "2"}}, {{"model 1 a", "1"}, {"model 0 b", "2"}}));
}

TEST(Resume, AnotherJobIsRefusedNamingWhatDiffers) {
  const TempDir dir;
  const std::string path = dir / "r.h5";
  ResultInfo other = sample_info();
  other.fingerprint = "beef";
  other.fingerprint_parts["ber"] = "2e-5";
  other.fingerprint_parts["images"] = "512";
  const auto expect_refused = [&] {
    const auto before = files_in(dir.path());
    const std::string message =
        message_of<UserError>([&] { open_store(path, quick_options(), other); });
    EXPECT_THAT(message, HasSubstr("ber: 1e-5 -> 2e-5"));
    EXPECT_THAT(message, HasSubstr("images: (none) -> 512"));
    EXPECT_THAT(message, Not(HasSubstr("seed")));
    EXPECT_THAT(message, HasSubstr("give fresh to start over, or another output"));
    EXPECT_EQ(files_in(dir.path()), before);
  };
  crash_after(path, range(2));
  fs::remove(path);
  expect_refused();  // by the journal alone
  {
    ResultStore store = open_store(path);
    store.finish(true);
  }
  expect_refused();  // by the result alone
  expect_trials(path, range(2));
  StoreOptions fresh = quick_options();
  fresh.fresh = true;
  open_store(path, fresh, other).finish(true);
  expect_trials(path, {});
}

TEST(Resume, FreshRemovesNoForeignFile) {
  const TempDir dir;
  const std::string path = dir / "r.h5";
  StoreOptions options = quick_options();
  options.fresh = true;
  const Quiet quiet;
  // A ranking is HDF5 too, and ours.
  RankingFile other;
  other.method = "l2-norm";
  other.layers = sample_info().importance;
  write_ranking(path, other);
  const Bytes ranking = read_file(path);
  EXPECT_THAT(message_of<DataError>([&] { open_store(path, options); }),
              HasSubstr("give another output"));
  EXPECT_EQ(read_file(path), ranking);
  write_file_atomic(path, std::string_view("a thesis"));
  EXPECT_THAT(message_of<DataError>([&] { open_store(path, options); }),
              HasSubstr("give another output"));
  EXPECT_EQ(read_file(path).size(), 8u);
}

TEST(Resume, FreshRemovesJournalsToo) {
  const TempDir dir;
  const std::string path = dir / "r.h5";
  crash_after(path, range(2));
  write_file_atomic(path + ".tmp.1", std::string_view("\x89HDF\r\n\x1a\n, cut"));
  StoreOptions fresh = quick_options();
  fresh.fresh = true;
  ResultStore store = open_store(path, fresh);
  EXPECT_EQ(store.rows(), 0u);
  EXPECT_THAT(files_in(dir.path()), ElementsAre("r.h5", "r.h5.journal.0", "r.h5.lock"));
}

}  // namespace
}  // namespace sentinel
