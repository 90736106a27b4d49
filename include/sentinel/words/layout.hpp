#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sentinel/words/format.hpp"

namespace sentinel {

/// How stored words are protected. Words of a block are coded together.
struct Code {
  enum class Kind : std::uint8_t {
    kRepeat,     // `n` copies of each word, majority of each bit
    kMset,       // copies of the exponent's highest bit in the two lowest
    kCep,        // chunks of `n` bits with a parity bit each
    kParity,     // of a word, in bit 0
    kTmr,        // two further copies of `bits` in the low bits
    kSecded,     // extended Hamming over blocks of `n` bits, check bits apart
    kSpw,        // the same of each word, check bits in the word
    kZeroSpace,  // the same of 8 int7 words in bytes, check bits in their bits 6
    kBch,        // extended BCH, `n` stored bits of `k`
  };
  Kind kind = Kind::kRepeat;
  int n = 0, k = 0;
  std::vector<int> bits;       // kTmr
  bool sign_exponent = false;  // kTmr: bits 31-23 and the mantissa's top five
  bool zero = false;           // kSecded: words of a block with two flips are flagged
  bool operator==(const Code& o) const {
    return kind == o.kind && n == o.n && k == o.k && bits == o.bits &&
           sign_exponent == o.sign_exponent && zero == o.zero;
  }
};

/// How the values of a tensor are stored.
struct Layout {
  NumberFormat format;
  bool scale_per_row = true;  // else one for the tensor; only where the format has scales
  std::optional<Code> code;
  bool operator==(const Layout& o) const {
    return format == o.format && scale_per_row == o.scale_per_row && code == o.code;
  }
};

/// "fp32", "int5:channel+bch:16,5", "fp16+repeat:7". UserError naming what is wrong, also where a
/// code does not fit the format.
Layout parse_layout(const std::string& text);
/// The one spelling of a layout: parse_layout(layout_name(l)) == l.
std::string layout_name(const Layout& layout);
/// fp32 without a code.
bool is_plain(const Layout& layout);

/// The words that are coded together.
struct BlockShape {
  int words = 1;         // values of a block
  int copies = 1;        // stored words of each value
  int stored_bits = 32;  // bits of a stored word, 1 ... 64
  int check_bits = 0;    // bits of the block's check word, which is stored apart; 0: none
};
BlockShape block_shape(const Layout& layout);
/// Whether a block that is not complete is coded too; zero-space stores its words as they are.
bool codes_incomplete_blocks(const Layout& layout);
/// Whether a code may flag words, which are then read as 0.
bool may_flag(const Layout& layout);

/// `count` <= shape.words words of a block (of the last one fewer; the rest count as 0) to stored
/// words [copies][count] and the check word (set where the block has one).
void encode_block(const Layout& layout, const Word* words, int count, Word* stored, Word* check);
/// The words that stored ones [copies][count] and their check word are read as.
void decode_block(const Layout& layout, const Word* stored, int count, Word check, ReadWord* words);

/// Whether every word is read as the one that was stored, without faults. Not of mset, cep, parity
/// and tmr, which put check bits in place of the word's own.
bool keeps_words(const Layout& layout);

/// Whether a stored bit carries the message; else it is a check bit. Of a block's first word.
bool is_message_bit(const Layout& layout, int bit);

}  // namespace sentinel
