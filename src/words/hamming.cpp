#include "words/hamming.hpp"

#include <array>

#include "words/bits.hpp"

namespace sentinel {
namespace {

constexpr std::size_t kMaxBytes = 16;  // secded:128

bool is_power_of_two(Word number) {
  return (number & (number - 1)) == 0;
}

/// Position of each data bit.
constexpr std::array<std::uint8_t, 8 * kMaxBytes> make_positions() {
  std::array<std::uint8_t, 8 * kMaxBytes> positions{};
  std::uint8_t position = 2;
  for (auto& p : positions) {
    ++position;
    if ((position & (position - 1)) == 0) ++position;
    p = position;
  }
  return positions;
}
constexpr auto kPositions = make_positions();

using Sums = std::array<std::array<std::uint8_t, 256>, kMaxBytes>;

/// For each byte of the data and its value: the exclusive or of its ones' positions.
constexpr Sums make_sums() {
  Sums sums{};
  for (std::size_t byte = 0; byte < kMaxBytes; ++byte)
    for (std::size_t value = 0; value < 256; ++value)
      for (std::size_t bit = 0; bit < 8; ++bit)
        if (value >> bit & 1)
          sums[byte][value] =
              static_cast<std::uint8_t>(sums[byte][value] ^ kPositions[8 * byte + bit]);
  return sums;
}
constexpr Sums kSums = make_sums();

/// Data bit at a position that is no power of two.
int data_bit(Word position) {
  const int log = 63 - __builtin_clzll(position);
  return static_cast<int>(position) - log - 2;
}

/// Up to 128 bits of data, in two halves.
struct Block {
  std::array<Word, 2> halves{};
  int bits = 0;
  void append(Word word, int width) {
    const auto half = static_cast<std::size_t>(bits / 64);
    halves[half] |= word << (bits % 64);
    bits += width;
  }
};

Word check_of(const Block& block) {
  Word sum = 0;
  for (std::size_t byte = 0; 8 * byte < static_cast<std::size_t>(block.bits); ++byte)
    sum ^= kSums[byte][block.halves[byte / 8] >> (byte % 8 * 8) & 255];
  return sum << 1 | static_cast<Word>(odd(sum ^ block.halves[0]) != odd(block.halves[1]));
}

/// Corrects a data bit if one is wrong; false: more bits are.
bool correct(Block& block, Word check) {
  const Word syndrome = (check_of(block) ^ check) >> 1;
  const bool odd_weight = odd(block.halves[0] ^ block.halves[1] ^ check);
  if (!odd_weight) return syndrome == 0;
  if (syndrome == 0 || is_power_of_two(syndrome)) return true;  // a check bit
  const int bit = data_bit(syndrome);
  if (bit >= block.bits) return false;  // nothing is stored there
  block.halves[static_cast<std::size_t>(bit / 64)] ^= Word{1} << (bit % 64);
  return true;
}

Block block_of(int width, const Word* words, int count) {
  Block block;
  for (int i = 0; i < count; ++i) block.append(words[i], width);
  return block;
}

void flag_all(int count, ReadWord* words) {
  for (int i = 0; i < count; ++i) words[i] = {0, true};
}

/// Sign and the low six bits of a byte.
Word seven_bits(Word byte) {
  return (byte & 63) | (byte >> 1 & 64);
}
Word byte_of(Word seven) {
  return seven | (seven & 64) << 1;
}

}  // namespace

int hamming_check_bits(int data_bits) {
  int checks = 1;
  while ((1 << checks) - checks - 1 < data_bits) ++checks;
  return checks + 1;
}

Word secded_check(int width, const Word* words, int count) {
  return check_of(block_of(width, words, count));
}

void secded_decode(int width, bool zero, const Word* stored, int count, Word check,
                   ReadWord* words) {
  Block block = block_of(width, stored, count);
  if (!correct(block, check) && zero) return flag_all(count, words);
  for (int i = 0; i < count; ++i) {
    const int first = i * width;
    words[i] = {
        block.halves[static_cast<std::size_t>(first / 64)] >> (first % 64) & low_bits(width),
        false};
  }
}

Word spw_encode(int width, Word word) {
  Block block;
  block.append(word, width);
  const Word check = check_of(block);
  Word stored = check & 1;
  for (int log = 0; (1 << log) - log - 1 < width; ++log) {
    stored |= (check >> (log + 1) & 1) << (1 << log);
    // Data bits 2^log - log - 1 and on stand in a row up to the next power of two.
    const int first = (1 << log) - log - 1, run = (1 << log) - 1;
    stored |= (word >> first & low_bits(run)) << ((1 << log) + 1);
  }
  return stored;
}

ReadWord spw_decode(int width, Word stored) {
  Word word = 0, check = stored & 1;
  for (int log = 0; (1 << log) - log - 1 < width; ++log) {
    check |= (stored >> (1 << log) & 1) << (log + 1);
    const int first = (1 << log) - log - 1, run = (1 << log) - 1;
    word |= (stored >> ((1 << log) + 1) & low_bits(run)) << first;
  }
  Block block;
  block.append(word, width);
  if (!correct(block, check)) return {0, true};
  return {block.halves[0], false};
}

bool is_spw_message_bit(int bit) {
  return !is_power_of_two(static_cast<Word>(bit));
}

void zero_space_encode(const Word* words, int count, Word* stored) {
  for (int i = 0; i < count; ++i) stored[i] = byte_of(words[i]);
  if (count < 8) return;
  Block block = block_of(7, words, 7);
  block.append(stored[7], 8);
  const Word check = check_of(block);
  for (int i = 0; i < 7; ++i) stored[i] = (stored[i] & ~Word{64}) | (check >> i & 1) << 6;
}

void zero_space_decode(const Word* stored, int count, ReadWord* words) {
  for (int i = 0; i < count; ++i) words[i] = {seven_bits(stored[i]), false};
  if (count < 8) return;
  Block block;
  Word check = 0;
  for (int i = 0; i < 7; ++i) {
    block.append(words[i].word, 7);
    check |= (stored[i] >> 6 & 1) << i;
  }
  block.append(stored[7], 8);
  if (!correct(block, check)) return flag_all(count, words);
  for (int i = 0; i < 7; ++i) words[i].word = block.halves[0] >> (7 * i) & 127;
  words[7].word = seven_bits(block.halves[0] >> 49);
}

}  // namespace sentinel
