#include "sentinel/core/sampling_words.hpp"

#include <gtest/gtest.h>

#include "sentinel/core/error.hpp"

namespace sentinel {
namespace {

TEST(SamplingWords, AreReadAndWritten) {
  for (const char* word :
       {"simple", "stratified", "sequential", "allocated", "per-layer", "per-class", "per-bit",
        "per-layer:allocated", "per-class:allocated", "per-bit:allocated"}) {
    const SamplingWord* found = find_sampling(word);
    ASSERT_NE(found, nullptr) << word;
    EXPECT_EQ(sampling_word(found->sampling, found->division), word);
  }
  for (const char* word : {"", "equal", "per-layer:", "per-layer:equal", "per-"}) {
    EXPECT_EQ(find_sampling(word), nullptr) << word;
    EXPECT_THROW(sampling_of(word), Bug) << word;
  }
  EXPECT_THROW(sampling_word(Sampling::kSequential, DivideBy::kBit), Bug);
}

TEST(SamplingWords, AreAskedForWherePlansAreNotChosenOtherwise) {
  EXPECT_EQ(parse_sampling("per-bit:allocated").division, DivideBy::kBit);
  for (const char* word : {"sequential", "allocated", "clever"})
    EXPECT_THROW(parse_sampling(word), UserError) << word;
}

TEST(SamplingWords, TellWhatTrialsDependOn) {
  for (const char* word : {"simple", "per-layer"})
    EXPECT_FALSE(is_adaptive(sampling_of(word).sampling));
  for (const char* word : {"stratified", "sequential", "allocated", "per-bit:allocated"})
    EXPECT_TRUE(is_adaptive(sampling_of(word).sampling)) << word;
  for (const char* word : {"sequential", "allocated"})
    EXPECT_TRUE(may_stop(sampling_of(word).sampling)) << word;
  for (const char* word : {"simple", "stratified", "per-layer", "per-layer:allocated"})
    EXPECT_FALSE(may_stop(sampling_of(word).sampling)) << word;
}

}  // namespace
}  // namespace sentinel
