#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace sentinel {

/// A stored word, in its low bits; bit 0 is the least significant.
using Word = std::uint64_t;

/// A word as it is read.
struct ReadWord {
  Word word = 0;
  bool flagged = false;  // its code cannot tell it: it is read as the value 0, and `word` is 0
};

/// How a value becomes a word of up to 64 bits, and back.
struct NumberFormat {
  enum class Kind : std::uint8_t { kFp32, kFp16, kBf16, kE4M3, kE5M2, kInteger, kFixed };
  Kind kind = Kind::kFp32;
  int integer = 0;        // kInteger: bits of the word; kFixed: bits before the point, sign apart
  int fraction = 0;       // kFixed: bits behind the point
  bool truncate = false;  // kFixed: towards zero, else to nearest even
  bool operator==(const NumberFormat& o) const {
    return kind == o.kind && integer == o.integer && fraction == o.fraction &&
           truncate == o.truncate;
  }
};

/// 1 ... 64.
int word_bits(const NumberFormat& format);
/// Whether values are stored as multiples of a scale: integers and 8-bit floats.
bool has_scale(const NumberFormat& format);
/// The scale of values of up to this finite magnitude: amax / (2^(k-1) - 1), amax / 448,
/// amax / 57344; at least 2^-126, so that it has a reciprocal. 1 where amax is 0 or not finite and
/// of formats without scale.
float scale_of(const NumberFormat& format, float amax);
/// Rounds to nearest even (or as the format says). fp16 and bf16 overflow to infinity, all others
/// saturate. Integers: value * (1 / scale) in fp32, as PyTorch's qint8; int26 and 8-bit floats:
/// value / scale in double. NaN: the format's NaN, in fp16 and bf16 with its payload's top bits; 0
/// where there is none. Words come back: encode(decode(encode(x))) == encode(x).
Word encode(const NumberFormat& format, float value, float scale = 1);
/// Every word has a value; exact but for the product with the scale, and words of more than 24
/// bits, which are rounded to fp32. Formats without scale ignore it.
float decode(const NumberFormat& format, Word word, float scale = 1);

/// "fp32", "fp8:e4m3", "int8", "fixed:15.16,trunc".
std::string format_name(const NumberFormat& format);

enum class BitRole : std::uint8_t { kSign, kExponent, kMantissa };
/// Integers and fixed point have a sign and a mantissa.
BitRole role_of(const NumberFormat& format, int bit);
/// The bits of a word in classes of like danger, most dangerous first: strata of single flips.
std::vector<std::vector<int>> bit_classes(const NumberFormat& format);
/// The bit whose flip from 0 to 1 makes a huge value; none of integers and fixed point.
std::optional<int> critical_bit(const NumberFormat& format);

}  // namespace sentinel
