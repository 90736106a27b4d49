#include "sentinel/results/trial_choice.hpp"

#include <gmock/gmock.h>

#include "sentinel/core/error.hpp"
#include "store_fixture.hpp"

namespace sentinel {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

TEST(ParseTrials, IdsRangesAndRandom) {
  EXPECT_THAT(parse_trials("3,17-20").ranges, ElementsAre(Pair(3u, 3u), Pair(17u, 20u)));
  EXPECT_THAT(parse_trials("18446744073709551615").ranges,
              ElementsAre(Pair(UINT64_MAX, UINT64_MAX)));
  EXPECT_EQ(parse_trials("random:20").random, 20u);
  for (const char* bad :
       {"", ",", "3,", ",3", "a", "3-", "-3", "20-17", "3--4", "1.5", "3 4", "0x3",
        "random:", "random:0", "random:-1", "random:x", "random:3,4", "18446744073709551616"})
    EXPECT_THAT(message_of<UserError>([&] { parse_trials(bad); }), HasSubstr("trials '")) << bad;
}

/// Trials 0 … 9 of point 0 and 5 … 14 of point 1, except 7.
class ChooseTrials : public ::testing::Test {
 protected:
  ChooseTrials() {
    ResultInfo info = sample_info();
    info.points[1].models = "";
    ResultStore store = open_store(path, quick_options(), info);
    for (std::uint64_t id = 0; id < 10; ++id) store.append(sample_trial(0, id));
    for (std::uint64_t id = 5; id < 15; ++id)
      if (id != 7) store.append(sample_trial(1, id));
    store.finish(false);
  }
  auto choose(const std::string& text, std::optional<std::uint32_t> point = {},
              std::uint64_t seed = 1) {
    TrialChoice choice = parse_trials(text);
    choice.point = point;
    choice.seed = seed;
    return choose_trials(path, choice);
  }
  TempDir dir;
  std::string path = dir / "r.h5";
};

TEST_F(ChooseTrials, ByIdInEveryPointThatHasThem) {
  EXPECT_THAT(choose("3"), ElementsAre(Pair(0u, 3u)));
  EXPECT_THAT(choose("6-7,6"), ElementsAre(Pair(0u, 6u), Pair(0u, 7u), Pair(1u, 6u)));
  EXPECT_THAT(choose("6", 1), ElementsAre(Pair(1u, 6u)));
}

TEST_F(ChooseTrials, UnknownOnesAreNamed) {
  EXPECT_THAT(message_of<UserError>([&] { choose("3,12-17"); }), HasSubstr("trial 15"));
  EXPECT_THAT(message_of<UserError>([&] { choose("5-8", 1); }), HasSubstr("trial 7"));
  EXPECT_THAT(message_of<UserError>([&] { choose("0-18446744073709551615"); }),
              HasSubstr("trial 15"));
  EXPECT_THAT(message_of<UserError>([&] { choose("3", 2); }), HasSubstr("point 2: "));
  EXPECT_THAT(message_of<UserError>([&] { choose("random:20"); }), HasSubstr("19 trials"));
  EXPECT_THAT(message_of<UserError>([&] { choose("random:10", 1); }), HasSubstr("9 trials"));
}

TEST_F(ChooseTrials, RandomOnesFollowTheSeed) {
  EXPECT_EQ(choose("random:19").size(), 19u);
  EXPECT_EQ(choose("random:6").size(), 6u);
  EXPECT_EQ(choose("random:6"), choose("random:6"));
  EXPECT_NE(choose("random:6"), choose("random:6", {}, 2));
  for (const auto& [point, id] : choose("random:6", 1)) EXPECT_EQ(point, 1u);
}

}  // namespace
}  // namespace sentinel
