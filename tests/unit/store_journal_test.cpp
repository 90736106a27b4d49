#include <fcntl.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <atomic>
#include <thread>

#include "sentinel/core/error.hpp"
#include "sentinel/core/rng.hpp"
#include "store_fixture.hpp"

namespace sentinel {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

std::set<std::uint64_t> range(std::uint64_t end) {
  std::set<std::uint64_t> ids;
  for (std::uint64_t id = 0; id < end; ++id) ids.insert(id);
  return ids;
}

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

TEST(Journal, EveryFlippedByteIsNoticed) {
  const Quiet quiet;
  const TempDir dir;
  const std::string path = dir / "r.h5", journal = path + ".journal.0";
  crash_after(path, range(1));
  const std::uint64_t first = fs::file_size(journal);
  fs::remove_all(dir.path());
  fs::create_directory(dir.path());
  crash_after(path, range(3));
  const Bytes whole = read_file(journal), result = read_file(path);
  // Behind the first frame: it must stay, what follows the flip must go.
  for (std::size_t at = first; at < whole.size(); ++at) {
    const TempDir copy;
    Bytes damaged = whole;
    damaged[at] ^= std::byte{0x10};
    write_file_atomic(copy / "r.h5", result);
    write_file_atomic(copy / "r.h5.journal.0", damaged);
    const ResultStore store = open_store(copy / "r.h5");
    ASSERT_TRUE(store.has(0, 0)) << at;
    ASSERT_FALSE(store.has(0, 2)) << at;
  }
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
    other[0].row.due += 1;
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

TEST(Resume, AFinishedResultCanBeExtended) {
  const TempDir dir;
  const std::string path = dir / "r.h5";
  {
    ResultStore store = open_store(path);
    for (std::uint64_t id = 0; id < 3; ++id) store.append(sample_trial(0, id));
    store.add_audit({0, 1, 0, 256, 0, 0});
    store.set_estimates({{0, 0, -1, "due", 0.5, 0.4, 0.6, 0.95, "t over trials", 3}});
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
    EXPECT_THAT(message, HasSubstr("--fresh"));
    EXPECT_THAT(message, HasSubstr("--output"));
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

TEST(Resume, FreshRemovesJournalsToo) {
  const TempDir dir;
  const std::string path = dir / "r.h5";
  crash_after(path, range(2));
  write_file_atomic(path + ".tmp.1", std::string_view("left by a killed publication"));
  StoreOptions fresh = quick_options();
  fresh.fresh = true;
  ResultStore store = open_store(path, fresh);
  EXPECT_EQ(store.rows(), 0u);
  EXPECT_THAT(files_in(dir.path()), ElementsAre("r.h5", "r.h5.journal.0", "r.h5.lock"));
}

TEST(Lock, SecondOpenerWaitsThenNamesTheHolder) {
  const TempDir dir;
  const std::string path = dir / "r.h5";
  std::optional<ResultStore> first(open_store(path));
  StoreOptions options = quick_options();
  options.lock_wait = std::chrono::seconds(1);
  const auto begin = std::chrono::steady_clock::now();
  const std::string message = message_of<EnvironmentError>([&] { open_store(path, options); });
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::seconds(1));
  EXPECT_THAT(message, HasSubstr("process " + std::to_string(::getpid())));
  EXPECT_THAT(message, HasSubstr("since 20"));
  // One that is let go in time is taken over.
  options.lock_wait = std::chrono::seconds(20);
  std::thread leaver([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    first.reset();
  });
  EXPECT_EQ(open_store(path, options).session(), 1u);
  leaver.join();
  EXPECT_FALSE(fs::exists(path + ".lock"));
}

std::string foreign_lease(double age) {
  const double now = static_cast<double>(std::time(nullptr));
  return "{\"host\": \"node99\", \"machine\": \"another boot\", \"pid\": 42, \"since\": " +
         std::to_string(now - 1000) + ", \"heartbeat\": " + std::to_string(now - age) + "}";
}

TEST(Lock, LeaseOfAnotherHostDecidesWhereFileLocksDoNotReach) {
  const TempDir dir;
  const std::string path = dir / "r.h5";
  write_file_atomic(path + ".lock", std::string_view(foreign_lease(3)));
  EXPECT_THAT(message_of<EnvironmentError>([&] { open_store(path); }),
              HasSubstr("process 42 on host node99"));
  EXPECT_TRUE(fs::exists(path + ".lock"));
  write_file_atomic(path + ".lock", std::string_view(foreign_lease(100)));
  EXPECT_EQ(open_store(path).session(), 0u);
}

TEST(Lock, DamagedLeaseIsNoObstacle) {
  const TempDir dir;
  write_file_atomic(dir / "r.h5.lock", std::string_view("{\"host\": 3"));
  EXPECT_EQ(open_store(dir / "r.h5").session(), 0u);
}

TEST(Publish, WhileAppendingAndReading) {
  const TempDir dir;
  const std::string path = dir / "r.h5";
  StoreOptions options = quick_options();
  options.publish = std::chrono::seconds(0);
  std::atomic<bool> stop{false};
  std::uint64_t appended = 0;
  std::size_t reads = 0, most = 0;
  {
    ResultStore store = open_store(path, options);
    std::thread reader([&] {
      std::size_t last = 0;
      while (!stop) {
        const ResultFile result = read_result(path);
        EXPECT_GE(result.trials.size(), last);  // publications only grow
        EXPECT_EQ(result.trials.size() % 2, 0u);
        last = most = result.trials.size();
        ++reads;
      }
    });
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(3);
    for (; std::chrono::steady_clock::now() < end; ++appended) {
      store.append(sample_trial(0, appended));
      if (appended % 50 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    stop = true;
    reader.join();
    store.finish(true);
  }
  EXPECT_GT(reads, 5u);
  EXPECT_GT(most, 0u) << "nothing was published in the background";
  EXPECT_EQ(read_result(path).trials.size(), 2 * appended);
}

TEST(Publish, H5pyReadsWhileTheCampaignRuns) {
  if (!have_h5py()) GTEST_SKIP() << "/usr/bin/python3 without h5py and pandas";
  const TempDir dir;
  const std::string path = dir / "r.h5";
  StoreOptions options = quick_options();
  options.publish = std::chrono::seconds(0);
  ResultStore store = open_store(path, options);
  std::atomic<bool> stop{false};
  std::string out;
  std::thread reader([&] {
    out = python(R"(
import sys, time, h5py
end, last, opened = time.time() + 2.5, 0, 0
while time.time() < end:
    with h5py.File(sys.argv[1], 'r') as f:
        t, o, s = f['trials'][:], f['faults/offsets'][:], f['faults/sites'][:]
    assert len(o) == len(t) + 1 and o[-1] == len(s) and len(t) >= last
    last, opened = len(t), opened + 1
assert last > 0 and opened > 5, (last, opened)
print('good')
)",
                 path);
    stop = true;
  });
  for (std::uint64_t id = 0; !stop; ++id) {
    store.append(sample_trial(0, id));
    if (id % 20 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  reader.join();
  EXPECT_EQ(out, "good\n");
}

/// A child appends and acknowledges each trial through a pipe until it is killed.
std::uint64_t acknowledged_by_killed_child(const std::string& path, std::uint64_t kill_after_us) {
  int pipe_ends[2];
  if (::pipe(pipe_ends) != 0) return 0;
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(pipe_ends[0]);
    StoreOptions options = quick_options();
    options.publish = std::chrono::seconds(0);
    options.lock_wait = std::chrono::seconds(10);
    try {
      ResultStore store = open_store(path, options);
      for (std::uint64_t id = 0;; ++id) {
        if (store.has(0, id)) continue;
        store.append(sample_trial(0, id));
        if (::write(pipe_ends[1], &id, sizeof(id)) != sizeof(id)) ::_exit(1);
      }
    } catch (const std::exception& error) {
      std::fprintf(stderr, "child: %s\n", error.what());
      ::_exit(2);
    }
  }
  ::close(pipe_ends[1]);
  std::uint64_t last = 0, id = 0;
  std::thread killer([&] {
    std::this_thread::sleep_for(std::chrono::microseconds(kill_after_us));
    ::kill(child, SIGKILL);
  });
  while (::read(pipe_ends[0], &id, sizeof(id)) == sizeof(id)) last = id + 1;
  killer.join();
  ::close(pipe_ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status)) << "the child ended by itself";
  return last;
}

TEST(Kill, NothingAcknowledgedIsLost) {
  const TempDir dir;
  const std::string path = dir / "r.h5";
  const Quiet quiet;
  Rng rng({31, 0, 0, Purpose::kShuffle});
  std::uint64_t acknowledged = 0, kills = 0;
  for (; kills < 40; ++kills) {
    acknowledged =
        std::max(acknowledged, acknowledged_by_killed_child(path, 1000 + rng.below(60000)));
    if (fs::exists(path)) read_result(path);  // always whole
  }
  ASSERT_GT(acknowledged, 100u);
  ResultStore store = open_store(path);
  for (std::uint64_t id = 0; id < acknowledged; ++id) ASSERT_TRUE(store.has(0, id)) << id;
  const std::uint64_t trials = store.rows() / 2;
  EXPECT_LE(trials, acknowledged + 1);  // one may have been written but not acknowledged
  store.finish(true);
  expect_trials(path, range(trials));
  EXPECT_THAT(files_in(dir.path()), ElementsAre("r.h5"));
}

TEST(Kill, WhileImportingAFinishedResult) {
  const TempDir dir;
  const std::string path = dir / "r.h5";
  constexpr std::uint64_t kTrials = 20000;
  {
    ResultStore store = open_store(path);
    for (std::uint64_t id = 0; id < kTrials; ++id) store.append(sample_trial(0, id));
    store.finish(true);
  }
  const Quiet quiet;
  Rng rng({37, 0, 0, Purpose::kShuffle});
  std::uint64_t acknowledged = kTrials;
  for (int kills = 0; kills < 10; ++kills)
    acknowledged =
        std::max(acknowledged, acknowledged_by_killed_child(path, 1000 + rng.below(150000)));
  ResultStore store = open_store(path);
  EXPECT_GE(store.rows(), 2 * acknowledged);
  store.finish(true);
  expect_trials(path, range(store.rows() / 2));
}

/// A file system of a few hundred KiB.
class SmallDisk : public ::testing::Test {
 protected:
  void SetUp() override {
    mounted_ =
        ::geteuid() == 0 && ::mount("tmpfs", dir_.path().c_str(), "tmpfs", 0, "size=512k") == 0;
    if (!mounted_) GTEST_SKIP() << "cannot mount a tmpfs (not root)";
  }
  void TearDown() override {
    if (mounted_) {
      EXPECT_EQ(::umount2(dir_.path().c_str(), MNT_DETACH), 0);
    }
  }
  void fill(std::size_t leave) {
    FileHandle file(dir_ / "filler", O_WRONLY | O_CREAT);
    const std::vector<char> page(4096);
    const auto free = [&] { return fs::space(dir_.path()).available; };
    while (free() > leave) file.write_all(page.data(), page.size());
  }
  /// Appends until the disk is full.
  std::uint64_t append_until_full(ResultStore& store) {
    std::uint64_t id = 0;
    const std::string message = message_of<EnvironmentError>([&] {
      for (;; ++id) store.append(sample_trial(0, id));
    });
    EXPECT_THAT(message, HasSubstr("No space left"));
    EXPECT_THAT(message, HasSubstr("free space"));
    return id;
  }

  TempDir dir_;
  bool mounted_ = false;
};

TEST_F(SmallDisk, FullWhileAppending) {
  const std::string path = dir_ / "r.h5";
  std::uint64_t stored = 0;
  {
    ResultStore store = open_store(path);
    fill(40 << 10);
    stored = append_until_full(store);
    ASSERT_GT(stored, 50u);
    EXPECT_EQ(store.rows(), 2 * stored);
    EXPECT_FALSE(store.has(0, stored));
    std::uint64_t seen = 0;
    store.for_each([&](const TrialRow&) { ++seen; });
    EXPECT_EQ(seen, 2 * stored);
    EXPECT_THROW(store.append(sample_trial(0, stored)), EnvironmentError);
    // The partial frame was taken back: with space the same store goes on.
    fs::remove(dir_ / "filler");
    store.append(sample_trial(0, stored));
  }
  ResultStore store = open_store(path);
  EXPECT_EQ(store.rows(), 2 * (stored + 1));
  store.finish(true);
  expect_trials(path, range(stored + 1));
}

TEST_F(SmallDisk, FullWhilePublishing) {
  const std::string path = dir_ / "r.h5";
  {
    ResultStore store = open_store(path);
    for (std::uint64_t id = 0; id < 300; ++id) store.append(sample_trial(0, id));
    for (const std::size_t left : {0, 8, 16, 24}) {
      fill(left << 10);
      EXPECT_THAT(message_of<EnvironmentError>([&] { store.finish(true); }),
                  HasSubstr("free space"))
          << left;
      expect_trials(path, {});  // the former publication is untouched
      fs::remove(dir_ / "filler");
    }
    EXPECT_THAT(files_in(dir_.path()), ElementsAre("r.h5", "r.h5.journal.0", "r.h5.lock"));
  }
  ResultStore store = open_store(path);
  EXPECT_EQ(store.rows(), 600u);
  store.finish(true);
  expect_trials(path, range(300));
}

TEST_F(SmallDisk, FullWhileOpening) {
  const std::string path = dir_ / "r.h5";
  fill(0);
  EXPECT_THROW(open_store(path), EnvironmentError);
  fs::remove(dir_ / "filler");
  open_store(path).finish(true);
  expect_trials(path, {});
}

}  // namespace
}  // namespace sentinel
