#include "words/in_place.hpp"

#include <array>

#include "words/bits.hpp"

namespace sentinel {
namespace {

Word bit_of(Word word, int bit) {
  return word >> bit & 1;
}
Word with_bit(Word word, int bit, Word value) {
  return (word & ~(Word{1} << bit)) | value << bit;
}

/// Bits of which there are two copies each in the low bits.
struct CopiedBits {
  const int* bits;
  int count;
};

CopiedBits copied_bits(const Code& tmr) {
  return {tmr.bits.data(), static_cast<int>(tmr.bits.size())};
}

Word encode_copies(CopiedBits copied, Word word) {
  for (int i = 0; i < copied.count; ++i) {
    const Word value = bit_of(word, copied.bits[i]);
    word = with_bit(word, 2 * copied.count - 1 - i, value);
    word = with_bit(word, copied.count - 1 - i, value);
  }
  return word;
}

Word decode_copies(CopiedBits copied, Word stored) {
  Word word = stored;
  for (int i = 0; i < copied.count; ++i) {
    const Word votes = bit_of(stored, copied.bits[i]) + bit_of(stored, 2 * copied.count - 1 - i) +
                       bit_of(stored, copied.count - 1 - i);
    word = with_bit(word, copied.bits[i], votes >= 2);
  }
  return word;
}

// tmr:sign-exponent: bits 31-18 of the rounded fp32 word, then bits 31-23 twice more.

Word rounded_to_14_bits(Word word) {
  const Word top = word >> 18, rest = word & low_bits(18), half = Word{1} << 17;
  const bool is_nan = (word & 0x7FFFFFFF) > 0x7F800000;
  if (is_nan) return (top & 31) == 0 ? top | 16 : top;
  return top + static_cast<Word>(rest > half || (rest == half && (top & 1) != 0));
}

Word sign_exponent_encode(Word word) {
  const Word top = rounded_to_14_bits(word), copy = top >> 5;
  return top << 18 | copy << 9 | copy;
}

Word sign_exponent_decode(Word stored) {
  const std::array<Word, 3> copies = {stored >> 23, stored >> 9 & low_bits(9),
                                      stored & low_bits(9)};
  return majority(copies.data(), 1, 3) << 23 | (stored & (low_bits(5) << 18));
}

// cep: chunk i has the bits below width - i * size, and its parity in bit chunks - 1 - i.

Word chunk_mask(int width, int size, int chunk) {
  return low_bits(size) << (width - size * (chunk + 1));
}

}  // namespace

Word majority(const Word* words, int stride, int count) {
  // Binary counters of all bits side by side; they start so that bit 5 is set by a majority.
  constexpr std::size_t kPlanes = 6;
  const int start = 32 - (count + 1) / 2;
  std::array<Word, kPlanes> planes{};
  for (std::size_t p = 0; p < kPlanes; ++p) planes[p] = start >> p & 1 ? ~Word{0} : 0;
  for (int i = 0; i < count; ++i, words += stride) {
    Word carry = *words;
    for (Word& plane : planes) {
      const Word next = plane & carry;
      plane ^= carry;
      carry = next;
    }
  }
  return planes[kPlanes - 1];
}

Word mset_encode(int width, Word word) {
  const int highest = width - 2;
  return encode_copies({&highest, 1}, word);
}

Word mset_decode(int width, Word stored) {
  const int highest = width - 2;
  return decode_copies({&highest, 1}, stored);
}

Word tmr_encode(const Code& code, Word word) {
  return code.sign_exponent ? sign_exponent_encode(word) : encode_copies(copied_bits(code), word);
}

Word tmr_decode(const Code& code, Word stored) {
  return code.sign_exponent ? sign_exponent_decode(stored)
                            : decode_copies(copied_bits(code), stored);
}

int tmr_check_bits(const Code& code) {
  return code.sign_exponent ? 18 : 2 * static_cast<int>(code.bits.size());
}

int cep_chunks(int width, int size) {
  return width / (size + 1);
}

Word cep_encode(int width, int size, Word word) {
  const int chunks = cep_chunks(width, size);
  for (int i = 0; i < chunks; ++i)
    word = with_bit(word, chunks - 1 - i, odd(word & chunk_mask(width, size, i)));
  return word;
}

Word cep_decode(int width, int size, Word stored) {
  const int chunks = cep_chunks(width, size);
  Word word = 0;
  for (int i = 0; i < chunks; ++i) {
    const Word chunk = stored & chunk_mask(width, size, i);
    if (odd(chunk) == (bit_of(stored, chunks - 1 - i) != 0)) word |= chunk;
  }
  return word;
}

Word parity_encode(Word word) {
  return with_bit(word, 0, odd(word >> 1));
}

ReadWord parity_decode(Word stored) {
  return odd(stored) ? ReadWord{0, true} : ReadWord{stored, false};
}

}  // namespace sentinel
