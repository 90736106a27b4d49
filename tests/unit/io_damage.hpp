#pragma once
#include <gtest/gtest.h>

#include "sentinel/core/error.hpp"
#include "sentinel/core/rng.hpp"

namespace sentinel::test {

/// Copies of a good file, each with 1 to `most` bytes replaced, are read or refused as bad data.
template <class Text, class Read>
void expect_read_or_refused(const Text& good, std::uint64_t seed, std::uint64_t most, Read&& read) {
  for (std::uint64_t trial = 0; trial < 20000; ++trial) {
    Rng rng({seed, 0, trial, Purpose::kShuffle});
    Text bad = good;
    for (std::uint64_t n = 1 + rng.below(most); n > 0; --n)
      bad[rng.below(bad.size())] = static_cast<typename Text::value_type>(rng.bits32() & 0xff);
    try {
      read(bad);
    } catch (const DataError&) {
      SUCCEED();
    }
  }
}

}  // namespace sentinel::test
