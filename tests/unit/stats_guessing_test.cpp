#include "sentinel/stats/guessing.hpp"

#include <gtest/gtest.h>

#include "sentinel/core/rng.hpp"

namespace sentinel {
namespace {

TEST(Guessing, ByCounts) {
  EXPECT_TRUE(looks_like_guessing(26, 256, 10));
  EXPECT_TRUE(looks_like_guessing(0, 20, 1000));  // class numbers in another order
  EXPECT_TRUE(looks_like_guessing(0, 1000, 10));  // fewer than chance
  EXPECT_FALSE(looks_like_guessing(68, 256, 10));
  EXPECT_FALSE(looks_like_guessing(227, 256, 10));
  EXPECT_TRUE(looks_like_guessing(500, 1000, 2));
  EXPECT_FALSE(looks_like_guessing(640, 1000, 2));
}

TEST(Guessing, AHandfulOfImagesSaysNothing) {
  for (std::int64_t images = 0; images < 8; ++images)
    EXPECT_FALSE(looks_like_guessing(0, images, 10)) << images;
  EXPECT_FALSE(looks_like_guessing(1, 10, 10));
  EXPECT_FALSE(looks_like_guessing(0, 20, 1));
}

/// Share of 2000 made evaluations that look like guessing; the generator's seed is 1.
double share_warned(double accuracy, std::int64_t images, std::int64_t classes) {
  constexpr int kRounds = 2000;
  int warned = 0;
  for (std::uint64_t round = 0; round < kRounds; ++round) {
    Rng rng({1, 0, round, Purpose::kShuffle});
    std::int64_t correct = 0;
    for (std::int64_t i = 0; i < images; ++i) correct += rng.uniform() < accuracy;
    warned += looks_like_guessing(correct, images, classes);
  }
  return static_cast<double>(warned) / kRounds;
}

TEST(Guessing, WarnsOfWhatGuessesAndSeldomOfWhatWorks) {
  for (const std::int64_t images : {32, 256}) {
    EXPECT_GT(share_warned(0.1, images, 10), 0.9) << images;
    EXPECT_LT(share_warned(0.4, images, 10), 0.02) << images;
    EXPECT_GT(share_warned(0.001, images, 1000), 0.9) << images;
    EXPECT_LT(share_warned(0.34, images, 1000), 0.02) << images;
  }
}

}  // namespace
}  // namespace sentinel
