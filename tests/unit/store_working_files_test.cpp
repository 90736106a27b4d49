#include "store/working_files.hpp"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <fcntl.h>

#include <csignal>
#include <map>

#include "sentinel/core/error.hpp"
#include "sentinel/core/stop.hpp"
#include "sentinel/store/file_lock.hpp"
#include "sentinel/store/merge.hpp"
#include "store/journal.hpp"
#include "store/lock.hpp"
#include "store/result_writer.hpp"
#include "store_fixture.hpp"

/// Files beside a result that are called like its own, and files put in its place.
namespace sentinel {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Files = std::map<std::string, Bytes>;

Files contents_of(const TempDir& dir) {
  Files files;
  for (const std::string& name : files_in(dir.path())) files[name] = read_file(dir / name);
  return files;
}

void write(const std::string& path, std::string_view text) {
  write_file_atomic(path, text);
}

Bytes finished_result(const ResultInfo& info = sample_info()) {
  const TempDir dir;
  ResultStore store = open_store(dir / "r.h5", quick_options(), info);
  store.append(sample_trial(0, 0));
  store.finish(true);
  return read_file(dir / "r.h5");
}

Bytes result_of_another_job() {
  ResultInfo info = sample_info();
  info.fingerprint = "beef";
  return finished_result(info);
}

TEST(WorkingFiles, ThoseOfOthersAreKept) {
  const Quiet quiet;
  const Bytes other = result_of_another_job();
  const std::string result(reinterpret_cast<const char*>(other.data()), other.size());
  const std::pair<const char*, std::string> there[] = {{".journal.3", "mine\n"},
                                                       {".journal.3", "SNNx"},
                                                       {".journal.3", result},
                                                       {".journal.0003", ""},
                                                       {".journal.12345678901", ""},
                                                       {".tmp.7", "mine\n"},
                                                       {".tmp.7", "\x89PNG"},
                                                       {".tmp.7", result},
                                                       {".lock", "mine\n"},
                                                       {".lock", "{\"note\":\"mine\"}"},
                                                       {".lock", "{\"heartbeat\":7}"},
                                                       {".lock", "[]"},
                                                       {".lock", "{mine"},
                                                       {".lock", result}};
  for (const auto& [suffix, content] : there) {
    const TempDir dir;
    const std::string path = dir / "r.h5";
    write(path + suffix, content);
    write(path + ".tmp.123", "");  // nothing is removed before all is looked at
    const Files before = contents_of(dir);
    for (const bool fresh : {false, true}) {
      StoreOptions options = quick_options();
      options.fresh = fresh;
      EXPECT_THAT(message_of<UserError>([&] { open_store(path, options); }),
                  HasSubstr(path + suffix));
      EXPECT_EQ(contents_of(dir), before) << suffix << content.substr(0, 20);
    }
  }
}

TEST(WorkingFiles, WhatAKilledCampaignLeftIsRemoved) {
  const Quiet quiet;
  const Bytes own = finished_result();
  const std::string result(reinterpret_cast<const char*>(own.data()), own.size());
  const std::string zeros(4096, '\0');
  const std::pair<const char*, std::string> left[] = {
      {".journal.3", ""},
      {".journal.3", "SNN"},
      {".journal.3", {"SNNJRNL\0\1\0\0\0\xff\0\0\0", 16}},
      {".tmp.7", ""},
      {".tmp.7", zeros},
      {".tmp.7", "\x89HDF\r\n"},
      {".tmp.7", result.substr(0, result.size() / 2)},
      {".tmp.7", result + "what the superblock does not know of yet"},
      {".tmp.7", result},
      {".lock", ""},
      {".lock", zeros.substr(0, 512)},
      {".lock", "{\"heart"},
      {".lock", "{\"heartbeat\":17,\"host\":\"a"}};
  for (const auto& [suffix, content] : left) {
    const TempDir dir;
    write(dir / "r.h5" + suffix, content);
    open_store(dir / "r.h5").finish(true);
    EXPECT_THAT(files_in(dir.path()), ElementsAre("r.h5")) << suffix << content.substr(0, 20);
  }
}

TEST(WorkingFiles, WhatIsNoPlainFileIsNotOpened) {
  const Quiet quiet;
  for (const char* suffix : {".journal.3", ".tmp.7", ".lock"})
    for (const char* kind : {"a FIFO", "a folder", "a symbolic link", "a link to a file"}) {
      const TempDir dir;
      const std::string path = dir / "r.h5", at = path + suffix;
      if (kind == std::string("a FIFO")) {
        ASSERT_EQ(::mkfifo(at.c_str(), 0600), 0);
      } else if (kind == std::string("a folder")) {
        fs::create_directory(at);
      } else {
        fs::create_symlink("elsewhere", at);
      }
      if (kind == std::string("a link to a file")) write(dir / "elsewhere", "");
      const auto before = files_in(dir.path());
      const std::string message = message_of<UserError>([&] { open_store(path); });
      EXPECT_THAT(message, HasSubstr(at + " is there already and is a "));
      EXPECT_EQ(files_in(dir.path()), before);
    }
}

TEST(WorkingFiles, ThereIsALastSessionNumber) {
  const Quiet quiet;
  const auto refused = [](const TempDir& dir) {
    const Files before = contents_of(dir);
    EXPECT_THAT(message_of<DataError>([&] { open_store(dir / "r.h5"); }),
                HasSubstr("has session 999999999, the last number there is"));
    EXPECT_EQ(contents_of(dir), before);
  };
  const TempDir torn, named, stored;
  write(torn / "r.h5.journal.999999999", "");
  refused(torn);
  SessionRow session{999999999, 1.7e9, 1.7e9, 1, "node1", 0, "{}"};
  store::JournalWriter(named / "r.h5.journal.0",
                       {sample_info().fingerprint, sample_info().fingerprint_parts, session});
  refused(named);
  store::ResultContents contents;
  contents.sessions = {session};
  contents.each_record = [](const auto&) {};
  store::OwnFile file(stored / "r.h5");
  store::publish_result(file, sample_info(), contents);
  EXPECT_NO_THROW(read_result(stored / "r.h5"));
  refused(stored);
  // The one before has a successor, once.
  const TempDir last;
  write(last / "r.h5.journal.999999998", "");
  open_store(last / "r.h5").finish(true);
  EXPECT_EQ(read_result(last / "r.h5").sessions.at(0).number, 999999999u);
}

TEST(FileLock, IsHeldByOneAndLeavesNothing) {
  const TempDir dir;
  const std::string path = dir / "net.training";
  {
    const FileLock lock(path), none("");
    EXPECT_THAT(files_in(dir.path()), ElementsAre("net.training.lock"));
    EXPECT_THROW(store::ResultLock(path, std::chrono::milliseconds(0)), EnvironmentError);
  }
  EXPECT_TRUE(files_in(dir.path()).empty());
  write(path + ".lock", "mine");
  EXPECT_THROW(FileLock{path}, UserError);
}

TEST(Publish, AFilePutInItsPlaceIsKept) {
  const Quiet quiet;
  const Bytes other = result_of_another_job();
  for (const bool in_place : {false, true}) {
    const TempDir dir;
    const std::string path = dir / "r.h5";
    {
      ResultStore store = open_store(path);
      store.append(sample_trial(0, 0));
      if (in_place)
        FileHandle(path, O_WRONLY | O_TRUNC).write_all(other.data(), other.size());
      else
        write_file_atomic(path, other);
      EXPECT_THAT(message_of<EnvironmentError>([&] { store.finish(true); }),
                  HasSubstr("is no longer the file that this campaign wrote; move it away"));
    }
    EXPECT_EQ(read_file(path), other);
    fs::rename(path, dir / "other.h5");
    ResultStore store = open_store(path);
    EXPECT_TRUE(store.has(0, 0));
    store.finish(true);
    expect_trials(path, {0});
    EXPECT_THAT(files_in(dir.path()), ElementsAre("other.h5", "r.h5"));
  }
}

TEST(Publish, ARemovedResultIsMadeAgain) {
  const TempDir dir;
  ResultStore store = open_store(dir / "r.h5");
  store.append(sample_trial(0, 0));
  fs::remove(dir / "r.h5");
  store.finish(true);
  expect_trials(dir / "r.h5", {0});
}

TEST(Merge, AStopLeavesNothingBehind) {
  const TempDir dir;
  write_file_atomic(dir / "a.h5", finished_result());
  ResultMerge merge({dir / "a.h5"}, dir / "all.h5");
  merge.each_trial([](const auto&) {});
  request_stop(SIGTERM);
  EXPECT_THROW(merge.write({}), Error);
  request_stop(0);
  EXPECT_THAT(files_in(dir.path()), ElementsAre("a.h5", "all.h5.lock"));
  EXPECT_TRUE(merge.write({}).complete == false);
}

TEST(Merge, WhatAKilledOneLeftIsRemoved) {
  const TempDir dir;
  write_file_atomic(dir / "a.h5", finished_result());
  write(dir / "all.h5.tmp.12", "\x89HDF\r\n");
  ResultMerge({dir / "a.h5"}, dir / "all.h5").write({});
  EXPECT_THAT(files_in(dir.path()), ElementsAre("a.h5", "all.h5"));
  write(dir / "all.h5.tmp.12", "mine");
  EXPECT_THROW(ResultMerge({dir / "a.h5"}, dir / "all.h5"), UserError);
  EXPECT_THAT(files_in(dir.path()), ElementsAre("a.h5", "all.h5", "all.h5.tmp.12"));
}

}  // namespace
}  // namespace sentinel
