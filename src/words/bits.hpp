#pragma once
#include "sentinel/words/format.hpp"

namespace sentinel {

/// A mask of the lowest 0 ... 64 bits.
constexpr Word low_bits(int count) {
  return count == 0 ? 0 : ~Word{0} >> (64 - count);
}

/// Whether the number of ones is odd.
inline bool odd(Word word) {
  return __builtin_parityll(word) != 0;
}

}  // namespace sentinel
