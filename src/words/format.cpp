#include "sentinel/words/format.hpp"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>

#include "words/bits.hpp"

namespace sentinel {
namespace {

using Kind = NumberFormat::Kind;

/// A floating-point format of at most 16 bits: sign, exponent, mantissa.
struct SmallFloat {
  int exponent, mantissa;  // bits
  // Words without their sign:
  Word largest;  // what greater numbers become
  Word special;  // from here on infinity and NaN
  Word nan;
  int bias() const { return (1 << (exponent - 1)) - 1; }
  Word sign() const { return Word{1} << (exponent + mantissa); }
};

constexpr SmallFloat kFp16 = {5, 10, 0x7C00, 0x7C00, 0x7E00};
constexpr SmallFloat kBf16 = {8, 7, 0x7F80, 0x7F80, 0x7FC0};
constexpr SmallFloat kE4M3 = {4, 3, 0x7E, 0x7F, 0x7F};
constexpr SmallFloat kE5M2 = {5, 2, 0x7B, 0x7C, 0x7E};

std::uint32_t bits_of(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

float float_of(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

/// 2^exponent, a normal double.
double power_of_two(int exponent) {
  const std::uint64_t bits = static_cast<std::uint64_t>(exponent + 1023) << 52;
  double value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

/// Exponent of a positive normal double; below that of any format for zero.
int exponent_of(double magnitude) {
  std::uint64_t bits;
  std::memcpy(&bits, &magnitude, sizeof bits);
  return static_cast<int>(bits >> 52) - 1023;
}

std::int64_t signed_of(Word word, int bits) {
  return static_cast<std::int64_t>(word << (64 - bits)) >> (64 - bits);
}

/// Rounds to nearest even and keeps within the format.
Word magnitude_of(const SmallFloat& f, double magnitude) {
  if (magnitude >= power_of_two(f.bias() + 2)) return f.largest;
  const int least = 1 - f.bias();  // exponent of the smallest normal number
  const int exponent = std::max(exponent_of(magnitude), least);
  const double steps = std::nearbyint(magnitude * power_of_two(f.mantissa - exponent));
  const Word word = (static_cast<Word>(exponent - least) << f.mantissa) + static_cast<Word>(steps);
  return std::min(word, f.largest);  // rounding may carry into the exponent, as it should
}

Word encode_small(const SmallFloat& f, float value, double quotient) {
  const Word sign = std::signbit(value) ? f.sign() : 0;
  return sign | (std::isnan(quotient) ? f.nan : magnitude_of(f, std::fabs(quotient)));
}

/// A NaN keeps the top bits of its payload, so that every word comes back.
Word encode_half(const SmallFloat& f, float value) {
  const Word payload = (bits_of(value) >> (23 - f.mantissa)) & low_bits(f.mantissa);
  if (!std::isnan(value) || payload == 0) return encode_small(f, value, static_cast<double>(value));
  return (std::signbit(value) ? f.sign() : 0) | f.special | payload;
}

float decode_small(const SmallFloat& f, Word word) {
  const Word magnitude = word & (f.sign() - 1);
  const auto exponent = static_cast<std::uint32_t>(magnitude >> f.mantissa);
  const auto fraction = static_cast<std::uint32_t>(magnitude & low_bits(f.mantissa));
  const std::uint32_t sign = (word & f.sign()) != 0 ? 0x80000000u : 0;
  const std::uint32_t shifted = fraction << (23 - f.mantissa);
  if (magnitude >= f.special) return float_of(sign | 0x7F800000u | shifted);
  if (exponent > 0)
    return float_of(sign | (exponent + 127 - static_cast<std::uint32_t>(f.bias())) << 23 | shifted);
  const auto step = static_cast<float>(power_of_two(1 - f.bias() - f.mantissa));
  return float_of(sign | bits_of(static_cast<float>(fraction) * step));
}

/// -2^(k-1) is never written. fp32 cannot hold a quotient of more than 24 bits.
Word encode_integer(int bits, float value, float scale) {
  const double top = power_of_two(bits - 1) - 1;
  const double quotient = bits <= 24 ? static_cast<double>(value * (1.0f / scale))
                                     : static_cast<double>(value) / static_cast<double>(scale);
  if (std::isnan(quotient)) return 0;
  const double rounded = std::nearbyint(std::clamp(quotient, -top, top));
  return static_cast<Word>(static_cast<std::int64_t>(rounded)) & low_bits(bits);
}

Word encode_fixed(const NumberFormat& format, float value) {
  if (std::isnan(value)) return 0;
  const int bits = word_bits(format);
  const double limit = power_of_two(bits - 1);
  const double exact = static_cast<double>(value) * power_of_two(format.fraction);
  const double rounded = format.truncate ? std::trunc(exact) : std::nearbyint(exact);
  if (rounded >= limit) return low_bits(bits - 1);
  if (rounded <= -limit) return Word{1} << (bits - 1);
  return static_cast<Word>(static_cast<std::int64_t>(rounded)) & low_bits(bits);
}

float decode_fixed(const NumberFormat& format, Word word) {
  return static_cast<float>(signed_of(word, word_bits(format))) *
         static_cast<float>(power_of_two(-format.fraction));
}

float largest_value(const NumberFormat& format) {
  if (format.kind == Kind::kE4M3) return 448;
  if (format.kind == Kind::kE5M2) return 57344;
  return static_cast<float>(power_of_two(format.integer - 1) - 1);
}

}  // namespace

float scale_of(const NumberFormat& format, float amax) {
  if (!has_scale(format) || !(amax > 0) || !std::isfinite(amax)) return 1;
  return std::max(amax / largest_value(format), FLT_MIN);
}

Word encode(const NumberFormat& format, float value, float scale) {
  switch (format.kind) {
    case Kind::kFp32:
      return bits_of(value);
    case Kind::kFp16:
      return encode_half(kFp16, value);
    case Kind::kBf16:
      return encode_half(kBf16, value);
    case Kind::kE4M3:
      return encode_small(kE4M3, value, static_cast<double>(value) / static_cast<double>(scale));
    case Kind::kE5M2:
      return encode_small(kE5M2, value, static_cast<double>(value) / static_cast<double>(scale));
    case Kind::kInteger:
      return encode_integer(format.integer, value, scale);
    case Kind::kFixed:
      return encode_fixed(format, value);
  }
  return 0;
}

float decode(const NumberFormat& format, Word word, float scale) {
  switch (format.kind) {
    case Kind::kFp32:
      return float_of(static_cast<std::uint32_t>(word));
    case Kind::kFp16:
      return decode_small(kFp16, word);
    case Kind::kBf16:
      return float_of(static_cast<std::uint32_t>(word) << 16);
    case Kind::kE4M3:
      return decode_small(kE4M3, word) * scale;
    case Kind::kE5M2:
      return decode_small(kE5M2, word) * scale;
    case Kind::kInteger:
      return static_cast<float>(static_cast<double>(signed_of(word, format.integer)) *
                                static_cast<double>(scale));
    case Kind::kFixed:
      return decode_fixed(format, word);
  }
  return 0;
}

}  // namespace sentinel
