// Every target of the fuzzers, for seconds and without sanitizers: its seeds, what once crashed it,
// and random changes of both.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <exception>
#include <filesystem>

#include "corrupt/target.hpp"
#include "sentinel/core/file.hpp"

namespace sentinel {
namespace {

namespace fs = std::filesystem;

/// Tables of results are printed, which nobody wants to see here.
class QuietStdout {
 public:
  QuietStdout() : kept_(::dup(1)) {
    std::fflush(stdout);
    const int null = ::open("/dev/null", O_WRONLY);
    ::dup2(null, 1);
    ::close(null);
  }
  ~QuietStdout() {
    std::fflush(stdout);
    ::dup2(kept_, 1);
    ::close(kept_);
  }

 private:
  int kept_;
};

std::vector<Bytes> crashers(const std::string& target) {
  std::vector<Bytes> all;
  const fs::path folder = fs::path(SENTINEL_CRASHERS) / target;
  if (!fs::exists(folder)) return all;
  for (const auto& entry : fs::directory_iterator(folder))
    all.push_back(read_file(entry.path().string()));
  return all;
}

/// Reads what the target is to survive. "" or what went wrong; a fault may also end the program.
std::string fault_of(const test::Target& target, int changes) {
  const QuietStdout quiet;
  if (!target.read(target.seeds[0])) return "the good file is refused";
  std::vector<Bytes> files = target.seeds;
  for (Bytes& file : crashers(target.name)) files.push_back(std::move(file));
  std::mt19937_64 random(20261129);
  int tried = -static_cast<int>(files.size());  // below 0: as they are
  try {
    for (const Bytes& file : files) {
      target.read(file);
      ++tried;
    }
    for (; tried < changes; ++tried) {
      Bytes file = files[random() % files.size()];
      for (auto n = random() % 4 + 1; n > 0; --n) file = test::changed(target, file, random);
      target.read(file);
    }
  } catch (const std::exception& error) {
    return "file " + std::to_string(tried) + ": " + error.what();
  }
  return "";
}

void try_target(const test::Target& target, int changes) {
  EXPECT_EQ(fault_of(target, changes), "");
}

/// TOML makes tables within tables of these, and following them would end by a crash.
TEST(Corrupt, NamesOfManyPartsAreRefused) {
  const test::Target job = test::job_target();
  std::string deep = "a";
  for (int i = 0; i < 200000; ++i) deep += ".a";
  for (const std::string& line : {deep + " = 1", "x = {y = '''\n#''', " + deep + " = 1}",
                                  "[x." + deep + "]", "x = 1 # \"\n" + deep + " = 1"})
    EXPECT_FALSE(job.read(test::to_bytes("[inject]\n" + line + "\n")));
}

TEST(Corrupt, Pth) {
  try_target(test::pth_target(), 20000);
}
TEST(Corrupt, Journal) {
  try_target(test::journal_target(), 20000);
}
TEST(Corrupt, Job) {
  try_target(test::job_target(), 5000);
}
TEST(Corrupt, Result) {
  try_target(test::result_target(), 1000);
}
TEST(Corrupt, Image) {
  try_target(test::image_target(), 5000);
}
TEST(Corrupt, List) {
  try_target(test::list_target(), 20000);
}
TEST(Corrupt, Metadata) {
  try_target(test::metadata_target(), 5000);
}
TEST(Corrupt, Script) {
  try_target(test::script_target(), 5000);
}
TEST(Corrupt, State) {
  try_target(test::state_target(), 5000);
}

}  // namespace
}  // namespace sentinel
