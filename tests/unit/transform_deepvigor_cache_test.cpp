#include <gtest/gtest.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "sentinel/core/error.hpp"
#include "sentinel/core/file.hpp"
#include "sentinel/core/hash.hpp"
#include "sentinel/core/stop.hpp"
#include "transform/deepvigor_cache.hpp"
#include "unit/deepvigor_support.hpp"

namespace sentinel {
namespace {

namespace fs = std::filesystem;
using test::balanced;
using test::noise;
using test::numbers;
using test::scores_of;

class DeepVigorCache : public ::testing::Test {
 protected:
  void SetUp() override {
    fs::remove_all(folder_);
    at::manual_seed(25);
    graph_ = balanced(test::plain_residual(), images_);
    other_ = balanced(test::plain_residual(), images_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  std::vector<std::string> files(const std::string& kind) const {
    std::vector<std::string> found;
    for (const auto& entry : fs::directory_iterator(folder_)) {
      const std::string name = entry.path().string();
      if (name.find(kind) != std::string::npos) found.push_back(name);
    }
    return found;
  }
  std::string folder_ = ::testing::TempDir() + "deepvigor_cache/made/" +
                        ::testing::UnitTest::GetInstance()->current_test_info()->name();
  Graph graph_, other_;
  Dataset images_ = noise({3, 8, 8}, 3, 9);
};

TEST_F(DeepVigorCache, WhatMatchesIsUsedAndNothingElse) {
  const auto own = numbers(scores_of(graph_, images_, false, 1, "a", folder_));
  const auto fresh = numbers(scores_of(other_, images_, false));
  ASSERT_NE(own, fresh);
  EXPECT_EQ(files(".deltas").size(), 6u);
  EXPECT_EQ(files(".deviations").size(), 6u);
  // Another network under the same name gets the first one's scores: nothing was computed.
  EXPECT_EQ(numbers(scores_of(other_, images_, false, 1, "a", folder_)), own);
  EXPECT_EQ(numbers(scores_of(other_, images_, false, 1, "b", folder_)), fresh);
  EXPECT_EQ(numbers(scores_of(other_, images_, false, 1, "", folder_)), fresh);
  const Dataset more = noise({3, 8, 8}, 4, 9);
  EXPECT_EQ(numbers(scores_of(other_, more, false, 1, "a", folder_)),
            numbers(scores_of(other_, more, false)));
  EXPECT_EQ(numbers(scores_of(graph_, images_, false, 2, "a", folder_)),
            numbers(scores_of(graph_, images_, false, 2)));
}

TEST_F(DeepVigorCache, OtherPositionsReuseTheSearch) {
  scores_of(graph_, images_, false, 1, "a", folder_);
  const auto before = files(".deltas");
  const auto time = fs::last_write_time(before.front());
  EXPECT_EQ(numbers(scores_of(graph_, images_, true, 1, "a", folder_)),
            numbers(scores_of(graph_, images_, true)));
  EXPECT_EQ(files(".deltas").size(), before.size());
  EXPECT_EQ(fs::last_write_time(before.front()), time);
  EXPECT_EQ(files(".deviations").size(), 12u);
}

TEST_F(DeepVigorCache, OtherDefinitionsDoNotMeet) {
  ImportanceInputs inputs{graph_};
  inputs.images = &images_;
  inputs.model_sha256 = "a";
  inputs.deepvigor.cache = folder_;
  const auto score = [&](ToleranceOrder search, bool limited) {
    inputs.deepvigor.search = search;
    inputs.deepvigor.limited = limited;
    importance_method("deepvigor")->score(inputs);
    return std::pair(files(".deltas").size(), files(".tolerances").size());
  };
  EXPECT_EQ(score(ToleranceOrder::kExhaustive, true), std::pair(6UL, 0UL));
  EXPECT_EQ(score(ToleranceOrder::kProportional, true), std::pair(12UL, 0UL));
  EXPECT_EQ(score(ToleranceOrder::kBisect, true), std::pair(18UL, 0UL));
  EXPECT_EQ(score(ToleranceOrder::kExhaustive, false), std::pair(18UL, 6UL));
  EXPECT_EQ(score(ToleranceOrder::kProportional, false), std::pair(18UL, 12UL));
}

TEST_F(DeepVigorCache, DamagedFilesAreMadeAnew) {
  scores_of(graph_, images_, false, 1, "a", folder_);
  const auto fresh = numbers(scores_of(other_, images_, false));
  const auto damaged = [&](const std::function<void(std::string&)>& damage) {
    for (const auto& file : files("")) {
      const Bytes bytes = read_file(file);
      std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      damage(text);
      std::ofstream(file, std::ios::binary) << text;
    }
    EXPECT_EQ(numbers(scores_of(other_, images_, false, 1, "a", folder_)), fresh);
  };
  damaged([](std::string& text) { text[text.size() - 20] ^= 1; });
  damaged([](std::string& text) { text[25] ^= 1; });
  damaged([](std::string& text) { text.resize(text.size() / 2); });
  damaged([](std::string& text) { text.clear(); });
}

/// The checksum of such a file may be right.
TEST_F(DeepVigorCache, CountsThatCannotBeAreRefused) {
  scores_of(graph_, images_, false, 1, "a", folder_);
  const std::string file = files(".deviations").front();
  const Bytes good = read_file(file);
  ByteReader head(good, file);
  head.text(std::strlen("SentinelNN cache 1\n"));
  head.text(head.read<std::uint64_t>());
  head.read<std::uint64_t>();  // how many counts follow
  const std::size_t end = good.size() - sizeof(std::uint64_t);
  for (const std::byte value : {std::byte{0}, std::byte{0xff}}) {  // none, and too many for a sum
    Bytes bytes = good;
    std::fill(bytes.begin() + static_cast<std::ptrdiff_t>(head.offset()),
              bytes.begin() + static_cast<std::ptrdiff_t>(end), value);
    const std::uint64_t checksum = checksum64(bytes.data(), end);
    std::memcpy(bytes.data() + end, &checksum, sizeof checksum);
    write_file_atomic(file, bytes);
    try {
      scores_of(graph_, images_, false, 1, "a", folder_);
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kData) << error.what();
    }
  }
}

TEST_F(DeepVigorCache, AFileOfAnotherKeyIsRefused) {
  const KeyedCache cache(folder_);
  const Bytes content(5, std::byte{7});
  cache.store("conv/1.deltas", "key", content);
  EXPECT_EQ(cache.load("conv/1.deltas", "key"), content);
  EXPECT_EQ(cache.load("conv/1.deltas", "other"), std::nullopt);
  fs::copy(cache.path("conv/1.deltas", "key"), cache.path("conv/1.deltas", "other"));
  EXPECT_EQ(cache.load("conv/1.deltas", "other"), std::nullopt);
}

TEST_F(DeepVigorCache, AFolderThatCannotBeMadeIsAnEnvironmentError) {
  try {
    scores_of(graph_, images_, false, 1, "a", "/dev/null/folder");
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kEnvironment);
  }
}

TEST_F(DeepVigorCache, AStopSaysSo) {
  request_stop(SIGTERM);
  try {
    scores_of(graph_, images_, false, 1, "a", folder_);
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kStopped);
  }
  request_stop(0);
}

}  // namespace
}  // namespace sentinel
