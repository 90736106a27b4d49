#pragma once
#include "sentinel/words/layout.hpp"

namespace sentinel {

/// Bit by bit, of an odd number (up to 31) of words that stand `stride` words apart.
Word majority(const Word* words, int stride, int count);

// Codes that give up low bits of a word for its protection; `width`: bits of the word.

/// Two copies of the exponent's highest bit in bits 1 and 0.
Word mset_encode(int width, Word word);
Word mset_decode(int width, Word stored);

/// Two copies of each bit in the low bits; sign_exponent: of bits 31-23, after rounding.
Word tmr_encode(const Code& code, Word word);
Word tmr_decode(const Code& code, Word stored);
/// The low bits that hold copies.
int tmr_check_bits(const Code& code);

/// Chunks of `size` bits from the top, the parity of chunk i in bit chunks - 1 - i; a chunk that
/// does not agree reads as 0, and so do the parity bits.
Word cep_encode(int width, int size, Word word);
Word cep_decode(int width, int size, Word stored);
int cep_chunks(int width, int size);

/// Bit 0 is the parity of the others.
Word parity_encode(Word word);
ReadWord parity_decode(Word stored);

}  // namespace sentinel
