#include <algorithm>

#include "sentinel/words/format.hpp"

namespace sentinel {
namespace {

using Kind = NumberFormat::Kind;

/// Bits of the exponent, below the sign; none of integers and fixed point.
int exponent_bits(const NumberFormat& format) {
  switch (format.kind) {
    case Kind::kFp32:
    case Kind::kBf16:
      return 8;
    case Kind::kFp16:
    case Kind::kE5M2:
      return 5;
    case Kind::kE4M3:
      return 4;
    case Kind::kInteger:
    case Kind::kFixed:
      return 0;
  }
  return 0;
}

std::vector<int> bits_down(int from, int to) {
  std::vector<int> bits;
  for (int bit = from; bit >= to; --bit) bits.push_back(bit);
  return bits;
}

std::vector<std::vector<int>> integer_classes(int width) {
  std::vector<std::vector<int>> classes;
  for (int bit = width - 1; bit >= std::max(0, width - 3); --bit) classes.push_back({bit});
  if (width > 3) classes.push_back(bits_down(width - 4, 0));
  return classes;
}

}  // namespace

int word_bits(const NumberFormat& format) {
  switch (format.kind) {
    case Kind::kFp32:
      return 32;
    case Kind::kFp16:
    case Kind::kBf16:
      return 16;
    case Kind::kE4M3:
    case Kind::kE5M2:
      return 8;
    case Kind::kInteger:
      return format.integer;
    case Kind::kFixed:
      return 1 + format.integer + format.fraction;
  }
  return 0;
}

bool has_scale(const NumberFormat& format) {
  switch (format.kind) {
    case Kind::kInteger:
    case Kind::kE4M3:
    case Kind::kE5M2:
      return true;
    case Kind::kFp32:
    case Kind::kFp16:
    case Kind::kBf16:
    case Kind::kFixed:
      return false;
  }
  return false;
}

std::string format_name(const NumberFormat& format) {
  switch (format.kind) {
    case Kind::kFp32:
      return "fp32";
    case Kind::kFp16:
      return "fp16";
    case Kind::kBf16:
      return "bf16";
    case Kind::kE4M3:
      return "fp8:e4m3";
    case Kind::kE5M2:
      return "fp8:e5m2";
    case Kind::kInteger:
      return "int" + std::to_string(format.integer);
    case Kind::kFixed:
      return "fixed:" + std::to_string(format.integer) + "." + std::to_string(format.fraction) +
             (format.truncate ? ",trunc" : "");
  }
  return "";
}

BitRole role_of(const NumberFormat& format, int bit) {
  const int sign = word_bits(format) - 1;
  if (bit == sign) return BitRole::kSign;
  return bit >= sign - exponent_bits(format) ? BitRole::kExponent : BitRole::kMantissa;
}

std::vector<std::vector<int>> bit_classes(const NumberFormat& format) {
  switch (format.kind) {
    case Kind::kFp32:
      return {{30}, bits_down(29, 27), bits_down(26, 23),
              {31}, bits_down(22, 19), bits_down(18, 0)};
    case Kind::kFp16:
      return {{14}, bits_down(13, 12), bits_down(11, 10), {15}, bits_down(9, 6), bits_down(5, 0)};
    case Kind::kBf16:
      return {{14}, bits_down(13, 11), bits_down(10, 7), {15}, bits_down(6, 0)};
    case Kind::kE4M3:
      return {{6}, {5}, bits_down(4, 3), {7}, bits_down(2, 0)};
    case Kind::kE5M2:
      return {{6}, {5}, bits_down(4, 2), {7}, bits_down(1, 0)};
    case Kind::kInteger:
    case Kind::kFixed:
      return integer_classes(word_bits(format));
  }
  return {};
}

std::optional<int> critical_bit(const NumberFormat& format) {
  if (exponent_bits(format) == 0) return std::nullopt;
  return word_bits(format) - 2;
}

}  // namespace sentinel
