#include <fcntl.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include <atomic>
#include <optional>
#include <thread>

#include "sentinel/core/error.hpp"
#include "sentinel/core/rng.hpp"
#include "store/lock.hpp"
#include "store/result_writer.hpp"
#include "store_fixture.hpp"

/// Locks, readers while the campaign runs, kills and full disks.
namespace sentinel {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

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

/// The lease of another host, whose clock is `ahead` of ours [s].
std::string foreign_lease(double ahead) {
  const double now = static_cast<double>(std::time(nullptr)) + ahead;
  return "{\"host\": \"node99\", \"machine\": \"another boot\", \"pid\": 42, \"since\": " +
         std::to_string(now - 1000) + ", \"heartbeat\": " + std::to_string(now) + "}";
}

constexpr double kClocks[] = {0, 7200, -7200, -3e9};

TEST(Lock, LeaseOfAnotherHostDecidesWhereFileLocksDoNotReach) {
  using std::chrono::milliseconds;
  for (const double clock : kClocks) {
    const TempDir dir;
    const std::string path = dir / "r.h5", lock = path + ".lock";
    write_file_atomic(lock, std::string_view(foreign_lease(clock)));
    EXPECT_THAT(message_of<EnvironmentError>([&] { open_store(path); }),
                HasSubstr("process 42 on host node99"));
    EXPECT_TRUE(fs::exists(lock));
    // It stands still.
    const store::ResultLock taken(path, milliseconds(20000), milliseconds(500));
    EXPECT_THAT(message_of<EnvironmentError>([&] { open_store(path); }),
                HasSubstr("process " + std::to_string(::getpid())));
  }
}

TEST(Lock, ALeaseThatIsRenewedLives) {
  using std::chrono::milliseconds;
  for (const double clock : kClocks) {
    const TempDir dir;
    const std::string lock = dir / "r.h5.lock";
    write_file_atomic(lock, std::string_view(foreign_lease(clock)));
    std::atomic<bool> stop{false};
    std::thread holder([&] {
      for (int beat = 1; !stop; ++beat) {
        const std::string lease = foreign_lease(clock + beat);
        EXPECT_EQ(::pwrite(FileHandle(lock, O_WRONLY).fd(), lease.data(), lease.size(), 0),
                  static_cast<ssize_t>(lease.size()));
        std::this_thread::sleep_for(milliseconds(50));
      }
    });
    EXPECT_THROW(store::ResultLock(dir / "r.h5", milliseconds(2500), milliseconds(1500)),
                 EnvironmentError);
    stop = true;
    holder.join();
  }
}

TEST(Lock, LeaseOfATimeThatCannotBeIsNotTakenOverAtOnce) {
  const TempDir dir;
  const std::string path = dir / "r.h5";
  for (const double age : {-1e15, 1e15, -1e6}) {  // heartbeats to come, and before 1970
    write_file_atomic(path + ".lock", std::string_view(foreign_lease(age)));
    EXPECT_THAT(message_of<EnvironmentError>([&] { open_store(path); }),
                HasSubstr("process 42 on host node99"));
  }
}

TEST(Lock, DamagedLeaseIsNoObstacle) {
  const TempDir dir;
  write_file_atomic(dir / "r.h5.lock", std::string_view("{\"heartbeat\":17"));
  EXPECT_EQ(open_store(dir / "r.h5").session(), 0u);
}

TEST(Lock, LostMeansNothingIsOverwritten) {
  const TempDir dir;
  const std::string path = dir / "r.h5";
  ResultStore store = open_store(path);
  store.append(sample_trial(0, 0));
  // Another host thought this one dead and has published since.
  const auto overwrite = [](const std::string& file, const std::string& text) {
    FileHandle(file, O_WRONLY | O_TRUNC).write_all(text.data(), text.size());
  };
  overwrite(path + ".lock", foreign_lease(0));
  overwrite(path, "of the new holder");
  for (int i = 0; i < 2; ++i)
    EXPECT_THAT(message_of<EnvironmentError>([&] { store.finish(true); }),
                HasSubstr("lost to process 42 on host node99"));
  const Bytes left = read_file(path);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(left.data()), left.size()),
            "of the new holder");
  EXPECT_TRUE(fs::exists(path + ".journal.0"));
}

TEST(Publish, NothingIsReplacedWhereTheLockIsLostMeanwhile) {
  const TempDir dir;
  const std::string path = dir / "r.h5";
  write_file_atomic(path, std::string_view("of the new holder"));
  store::ResultContents contents;
  contents.each_record = [](const auto&) {};
  contents.before_rename = [] { throw EnvironmentError("lost"); };
  store::OwnFile file(path);
  EXPECT_THROW(store::publish_result(file, sample_info(), contents), EnvironmentError);
  EXPECT_EQ(read_file(path).size(), 17u);
  EXPECT_THAT(files_in(dir.path()), ElementsAre("r.h5"));
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

/// Opens the store and appends, acknowledging each trial through the pipe, until it is killed.
[[noreturn]] void append_for_ever(const std::string& path, int pipe_end) {
  StoreOptions options = quick_options();
  options.publish = std::chrono::seconds(0);
  options.lock_wait = std::chrono::seconds(10);
  try {
    ResultStore store = open_store(path, options);
    for (std::uint64_t id = 0;; ++id) {
      if (store.has(0, id)) continue;
      store.append(sample_trial(0, id));
      if (::write(pipe_end, &id, sizeof(id)) != sizeof(id)) ::_exit(1);
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "child: %s\n", error.what());
  }
  ::_exit(2);
}

/// Number of trials acknowledged by a child that is killed some time after its start or, to be sure
/// of some progress, after its first trial.
std::uint64_t acknowledged_by_killed_child(const std::string& path, std::uint64_t delay_us,
                                           bool after_first_trial) {
  int ends[2];
  if (::pipe(ends) != 0) throw std::runtime_error("pipe failed");
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(ends[0]);
    append_for_ever(path, ends[1]);
  }
  ::close(ends[1]);
  std::uint64_t last = 0, id = 0;
  const auto read_one = [&] {
    const bool got = ::read(ends[0], &id, sizeof(id)) == sizeof(id);
    if (got) last = id + 1;
    return got;
  };
  if (after_first_trial) read_one();
  std::thread killer([&] {
    std::this_thread::sleep_for(std::chrono::microseconds(delay_us));
    ::kill(child, SIGKILL);
  });
  while (read_one()) {
  }
  killer.join();
  ::close(ends[0]);
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
  std::uint64_t acknowledged = 0;
  for (int kills = 0; kills < 40; ++kills) {
    const std::uint64_t delay = 500 + rng.below(kills % 2 ? 20000 : 60000);
    acknowledged =
        std::max(acknowledged, acknowledged_by_killed_child(path, delay, kills % 2 == 1));
    if (fs::exists(path)) read_result(path);  // always whole
  }
  ASSERT_GT(acknowledged, 20u);
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
  constexpr std::uint64_t kStored = 20000;
  {
    ResultStore store = open_store(path);
    for (std::uint64_t id = 0; id < kStored; ++id) store.append(sample_trial(0, id));
    store.finish(true);
  }
  const Quiet quiet;
  Rng rng({37, 0, 0, Purpose::kShuffle});
  std::uint64_t acknowledged = kStored;
  for (int kills = 0; kills < 10; ++kills)
    acknowledged =
        std::max(acknowledged, acknowledged_by_killed_child(path, 1000 + rng.below(150000), false));
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
    for (const std::size_t left : {0, 4, 8, 12, 16, 20, 24}) {
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

/// HDF5's exit handler must not turn exit 71 into a crash.
TEST_F(SmallDisk, TheProcessEndsNormallyAfterAFailedPublication) {
  const auto fail_and_exit = [&] {
    {
      ResultStore store = open_store(dir_ / "r.h5");
      for (std::uint64_t id = 0; id < 300; ++id) store.append(sample_trial(0, id));
      fill(8 << 10);
      try {
        store.finish(true);
      } catch (const EnvironmentError&) {
      }
    }
    std::exit(71);
  };
  EXPECT_EXIT(fail_and_exit(), ::testing::ExitedWithCode(71), "");
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
