#pragma once
#include <cstdint>

namespace sentinel {

/// A mask of the lowest 0 ... 64 bits.
constexpr std::uint64_t low_bits(int count) {
  return count == 0 ? 0 : ~std::uint64_t{0} >> (64 - count);
}

/// Whether the number of ones is odd.
inline bool odd(std::uint64_t word) {
  return __builtin_parityll(word) != 0;
}

}  // namespace sentinel
