#pragma once
#include "sentinel/words/layout.hpp"

namespace sentinel {

// Extended Hamming codes: data bit d stands at the d-th position that is no power of two (3, 5, 6,
// 7, 9 ...), check bit j at position 2^(j-1), bit 0 is the parity of all. A check word holds bit 0
// and the check bits. One wrong bit is corrected, two are noticed (Hamming 1950).

/// Stored bits beside `data_bits` bits of data.
int hamming_check_bits(int data_bits);

/// secded: words of `width` bits that are coded together.
Word secded_check(int width, const Word* words, int count);
void secded_decode(int width, bool zero, const Word* stored, int count, Word check,
                   ReadWord* words);

/// spw: data and check bits of one word at their positions.
Word spw_encode(int width, Word word);
ReadWord spw_decode(int width, Word stored);
bool is_spw_message_bit(int bit);

/// zero-space (Guan et al. 2019): int7 words in bytes, check bit j in bit 6 of byte j < 7; bytes of
/// an incomplete block have none. On reading, bit 6 of every byte is its bit 7.
void zero_space_encode(const Word* words, int count, Word* stored);
void zero_space_decode(const Word* stored, int count, ReadWord* words);

}  // namespace sentinel
