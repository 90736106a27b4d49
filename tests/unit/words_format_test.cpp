#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <map>

#include "sentinel/core/rng.hpp"
#include "sentinel/words/layout.hpp"

namespace sentinel {
namespace {

using Kind = NumberFormat::Kind;

constexpr std::uint64_t kSeed = 37;

NumberFormat format_of(const std::string& name) {
  return parse_layout(name).format;
}

float float_of(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

Rng make_rng() {
  return Rng({kSeed, 0, 0, Purpose::kShuffle});
}

/// A float of any bits: NaN, infinite and denormal ones among them.
float any_float(Rng& rng) {
  return float_of(rng.bits32());
}

/// The numbers of a small float from its definition, by word; of fp16 and bf16 what follows the
/// last one stands for infinity, so that the rounding to it is that to nearest even.
struct Table {
  std::map<double, Word> words;
  Table(int exponent_bits, int mantissa_bits, int bias, Word last) {
    for (Word word = 0; word <= last; ++word) {
      const int exponent = static_cast<int>(word >> mantissa_bits);
      const auto fraction = static_cast<double>(word & ((Word{1} << mantissa_bits) - 1));
      EXPECT_LT(exponent, 1 << exponent_bits);
      const double value =
          exponent == 0 ? std::ldexp(fraction, 1 - bias - mantissa_bits)
                        : std::ldexp(1 + std::ldexp(fraction, -mantissa_bits), exponent - bias);
      words[value] = word;
    }
  }
  /// To nearest, ties to the even word; beyond the last: the last.
  Word nearest(double magnitude) const {
    const auto above = words.lower_bound(magnitude);
    if (above == words.end()) return words.rbegin()->second;
    if (above == words.begin()) return above->second;
    const auto below = std::prev(above);
    const double up = above->first - magnitude, down = magnitude - below->first;
    if (up != down) return up < down ? above->second : below->second;
    return above->second % 2 == 0 ? above->second : below->second;
  }
};

const std::map<std::string, Table>& tables() {
  static const std::map<std::string, Table> all = {{"fp16", {5, 10, 15, 0x7C00}},
                                                   {"bf16", {8, 7, 127, 0x7F80}},
                                                   {"fp8:e4m3", {4, 3, 7, 0x7E}},
                                                   {"fp8:e5m2", {5, 2, 15, 0x7B}}};
  return all;
}

Word signed_word(const NumberFormat& format, Word magnitude, float value) {
  return magnitude | static_cast<Word>(std::signbit(value)) << (word_bits(format) - 1);
}

TEST(SmallFloats, RoundToNearestEvenAtEveryTieAndBesideIt) {
  for (const auto& [name, table] : tables()) {
    const NumberFormat format = format_of(name);
    for (auto next = std::next(table.words.begin()); next != table.words.end(); ++next) {
      const double middle = (std::prev(next)->first + next->first) / 2;
      const auto tie = static_cast<float>(middle);
      if (static_cast<double>(tie) != middle) continue;  // below the denormals of fp32
      for (const float value : {tie, std::nextafterf(tie, 0), std::nextafterf(tie, INFINITY)})
        for (const float x : {value, -value})
          ASSERT_EQ(encode(format, x),
                    signed_word(format, table.nearest(static_cast<double>(value)), x))
              << name << " " << x;
    }
  }
}

TEST(SmallFloats, RoundRandomFloatsAsTheTableSays) {
  Rng rng = make_rng();
  for (const auto& [name, table] : tables()) {
    const NumberFormat format = format_of(name);
    for (int i = 0; i < 200'000; ++i) {
      float value = any_float(rng);
      if (i % 2) value = static_cast<float>(4 * rng.uniform() - 2);
      if (std::isnan(value)) continue;
      const float scale = has_scale(format) ? static_cast<float>(rng.uniform_positive()) : 1;
      const double magnitude = std::fabs(static_cast<double>(value) / static_cast<double>(scale));
      ASSERT_EQ(encode(format, value, scale), signed_word(format, table.nearest(magnitude), value))
          << name << " " << value << " / " << scale << ", seed " << kSeed;
    }
  }
}

TEST(SmallFloats, DecodeAsTheTableSays) {
  for (const auto& [name, table] : tables()) {
    const NumberFormat format = format_of(name);
    for (const auto& [value, word] : table.words) {
      const bool infinite = !has_scale(format) && word == table.words.rbegin()->second;
      const float wanted = infinite ? INFINITY : static_cast<float>(value);
      ASSERT_EQ(decode(format, word), wanted) << name;
      ASSERT_EQ(decode(format, word | Word{1} << (word_bits(format) - 1)), -wanted) << name;
    }
  }
}

TEST(SmallFloats, KeepWhatIsNoNumber) {
  const float nan = float_of(0x7FC00000);
  EXPECT_EQ(encode(format_of("fp16"), nan), 0x7E00u);
  EXPECT_EQ(encode(format_of("bf16"), nan), 0x7FC0u);
  EXPECT_EQ(encode(format_of("fp8:e4m3"), nan), 0x7Fu);
  EXPECT_EQ(encode(format_of("fp8:e4m3"), -nan), 0xFFu);
  EXPECT_EQ(encode(format_of("fp8:e5m2"), nan), 0x7Eu);
  EXPECT_EQ(encode(format_of("fp16"), float_of(0xFF800001)), 0xFE00u);  // no payload left
  EXPECT_EQ(encode(format_of("fp16"), -INFINITY), 0xFC00u);
  EXPECT_EQ(encode(format_of("fp16"), 65519.996f), 0x7BFFu);
  EXPECT_EQ(encode(format_of("fp16"), 65520.0f), 0x7C00u);
  EXPECT_EQ(encode(format_of("bf16"), FLT_MAX), 0x7F80u);
  EXPECT_EQ(encode(format_of("fp8:e4m3"), INFINITY), 0x7Eu);
  EXPECT_EQ(encode(format_of("fp8:e5m2"), -1e9f), 0xFBu);
  EXPECT_TRUE(std::isnan(decode(format_of("fp8:e4m3"), 0xFF)));
  EXPECT_EQ(decode(format_of("fp8:e5m2"), 0x7C), INFINITY);
}

/// Whether a word is one that no value is stored as.
bool is_never_written(const NumberFormat& format, Word word) {
  if (format.kind == Kind::kInteger) return word == Word{1} << (format.integer - 1);
  if (format.kind != Kind::kE5M2) return false;
  return (word & 0x7F) == 0x7C || (word & 0x7F) == 0x7D || (word & 0x7F) == 0x7F;
}

TEST(Formats, GiveEveryWordOfUpTo16BitsBack) {
  for (const char* name : {"fp16", "bf16", "fp8:e4m3", "fp8:e5m2", "int2", "int3", "int4", "int5",
                           "int6", "int7", "int8", "int11", "int12", "int16", "fixed:0.1",
                           "fixed:3.12", "fixed:15.0", "fixed:3.12,trunc", "fixed:0.15"}) {
    const NumberFormat format = format_of(name);
    for (const float scale : {1.0f, 0.0123f, 3e-38f}) {
      if (scale != 1 && !has_scale(format)) continue;
      for (Word word = 0; word < Word{1} << word_bits(format); ++word) {
        if (is_never_written(format, word)) continue;
        ASSERT_EQ(encode(format, decode(format, word, scale), scale), word) << name;
      }
    }
  }
}

TEST(Formats, Fp32KeepsEveryBit) {
  Rng rng = make_rng();
  const NumberFormat format;
  for (int i = 0; i < 100'000; ++i) {
    const Word word = rng.bits32();
    ASSERT_EQ(encode(format, decode(format, word)), word);
  }
}

/// To nearest even, of a double below 2^53.
double rounded(double x) {
  const double below = std::floor(x), rest = x - below;
  if (rest != 0.5) return rest < 0.5 ? below : below + 1;
  return std::fmod(below, 2) == 0 ? below : below + 1;
}

TEST(Integers, RoundTheProductWithTheReciprocal) {
  Rng rng = make_rng();
  for (const int bits : {2, 3, 4, 5, 6, 7, 8, 11, 12, 16, 21}) {
    const NumberFormat format = format_of("int" + std::to_string(bits));
    const double top = std::ldexp(1, bits - 1) - 1;
    for (int i = 0; i < 20'000; ++i) {
      const auto scale = static_cast<float>(rng.uniform_positive() / top);
      auto value = static_cast<float>(3 * rng.uniform() - 1.5);
      if (i % 4 == 0) value = scale * static_cast<float>(rng.below(64)) / 2;  // near ties
      const float product = value * (1 / scale);
      const double q = std::min(top, std::max(-top, rounded(static_cast<double>(product))));
      const Word word = static_cast<Word>(static_cast<std::int64_t>(q)) & ((Word{1} << bits) - 1);
      ASSERT_EQ(encode(format, value, scale), word) << bits << " " << value << " / " << scale;
      ASSERT_EQ(decode(format, word, scale), static_cast<float>(q) * scale);
    }
  }
}

TEST(Integers, HaveValuesForWhatIsNeverWritten) {
  EXPECT_EQ(decode(format_of("int8"), 0x80, 0.5f), -64);
  EXPECT_EQ(decode(format_of("int2"), 2, 3), -6);
  EXPECT_EQ(encode(format_of("int8"), -1000, 1), 0x81u);
  EXPECT_EQ(encode(format_of("int8"), INFINITY, 1), 0x7Fu);
  EXPECT_EQ(encode(format_of("int8"), NAN, 1), 0u);
}

TEST(FixedPoint, RoundsOrTruncatesAndSaturates) {
  const NumberFormat nearest = format_of("fixed:15.16"), cut = format_of("fixed:15.16,trunc");
  const float step = std::ldexp(1.0f, -16);
  EXPECT_EQ(encode(nearest, 1), 0x10000u);
  EXPECT_EQ(encode(nearest, -1), 0xFFFF0000u);
  EXPECT_EQ(encode(nearest, 2.5f * step), 2u);
  EXPECT_EQ(encode(nearest, 3.5f * step), 4u);
  EXPECT_EQ(encode(cut, 3.5f * step), 3u);
  EXPECT_EQ(encode(cut, -3.5f * step), 0xFFFFFFFDu);
  EXPECT_EQ(encode(nearest, 32768), 0x7FFFFFFFu);
  EXPECT_EQ(encode(nearest, -INFINITY), 0x80000000u);
  EXPECT_EQ(encode(nearest, NAN), 0u);
  EXPECT_EQ(decode(nearest, 0x80000000), -32768);
  EXPECT_EQ(decode(nearest, 0x18000), 1.5f);
  const NumberFormat wide = format_of("fixed:31.32");
  EXPECT_EQ(encode(wide, -0.5f), ~Word{0} << 31);
  EXPECT_EQ(encode(wide, 1e30f), ~Word{0} >> 1);
  EXPECT_EQ(encode(wide, -1e30f), Word{1} << 63);
  EXPECT_EQ(decode(wide, Word{3} << 31), 1.5f);
}

TEST(FixedPoint, RoundsRandomValues) {
  Rng rng = make_rng();
  for (const char* name : {"fixed:3.12", "fixed:3.12,trunc", "fixed:7.8", "fixed:0.15"}) {
    const NumberFormat format = format_of(name);
    const double limit = 32768;
    for (int i = 0; i < 50'000; ++i) {
      const auto value = static_cast<float>(20 * rng.uniform() - 10);
      const double exact = std::ldexp(static_cast<double>(value), format.fraction);
      double q = rounded(exact);
      if (format.truncate) q = exact < 0 ? std::ceil(exact) : std::floor(exact);
      q = std::min(limit - 1, std::max(-limit, q));
      ASSERT_EQ(encode(format, value), static_cast<Word>(static_cast<std::int64_t>(q)) & 0xFFFF)
          << name << " " << value;
    }
  }
}

TEST(Scales, AreTheLargestMagnitudeOverTheLargestWord) {
  EXPECT_EQ(scale_of(format_of("int8"), 1.27f), 1.27f / 127);
  EXPECT_EQ(scale_of(format_of("int7"), 1.27f), 1.27f / 63);
  EXPECT_EQ(scale_of(format_of("int2"), 1.27f), 1.27f);
  EXPECT_EQ(scale_of(format_of("fp8:e4m3"), 3), 3.0f / 448);
  EXPECT_EQ(scale_of(format_of("fp8:e5m2"), 3), 3.0f / 57344);
  EXPECT_EQ(scale_of(format_of("int8"), 0), 1);
  EXPECT_EQ(scale_of(format_of("int8"), INFINITY), 1);
  EXPECT_EQ(scale_of(format_of("int8"), NAN), 1);
  EXPECT_EQ(scale_of(format_of("int8"), 1e-44f), FLT_MIN);
  EXPECT_EQ(scale_of(format_of("fp16"), 3), 1);
}

// ---- a value that was stored and read is stored the same again ---------------------------------

const std::vector<std::string>& layouts() {
  static const std::vector<std::string> all = [] {
    std::vector<std::string> names = {"fp32+mset",
                                      "fp16+mset",
                                      "fp32+cep:d3",
                                      "fp32+cep:d7",
                                      "fp32+cep:d15",
                                      "fp16+cep:d3",
                                      "fp16+cep:d7",
                                      "fp16+cep:d15",
                                      "fp32+tmr:sign-exponent",
                                      "fp32+tmr:31,30,26,25,24",
                                      "fp16+tmr:14,13",
                                      "bf16+tmr:15,14",
                                      "fp8:e5m2+tmr:6",
                                      "int8+tmr:7",
                                      "int8+tmr:6,5",
                                      "int21+tmr:20,19",
                                      "fixed:3.12+tmr:15,14",
                                      "int7+zero-space",
                                      "int4+bch:8,4",
                                      "int5+bch:16,5",
                                      "int7+bch:16,7",
                                      "int11+bch:16,11",
                                      "int6+bch:32,6",
                                      "int11+bch:32,11",
                                      "int16+bch:32,16",
                                      "fp16+bch:32,16",
                                      "int21+bch:32,21",
                                      "int26+bch:32,26"};
    for (const char* format : {"fp32",
                               "fp16",
                               "bf16",
                               "fp8:e4m3",
                               "fp8:e5m2",
                               "int2",
                               "int3",
                               "int4",
                               "int5",
                               "int6",
                               "int7",
                               "int8",
                               "int11",
                               "int12",
                               "int16",
                               "int21",
                               "int26",
                               "fixed:15.16",
                               "fixed:15.16,trunc",
                               "fixed:3.12",
                               "fixed:0.1",
                               "fixed:23.0",
                               "fixed:31.32"}) {
      for (const char* code :
           {"", "+repeat:3", "+parity", "+secded:64", "+secded:128,zero", "+spw"}) {
        try {
          names.push_back(layout_name(parse_layout(std::string(format) + code)));
        } catch (const std::exception&) {  // the code does not fit
        }
      }
    }
    return names;
  }();
  return all;
}

/// A block of values on their way to the stored words and back.
struct Block {
  explicit Block(const std::string& name)
      : layout(parse_layout(name)),
        values(static_cast<std::size_t>(block_shape(layout).words)),
        words(values.size()),
        stored(values.size() * static_cast<std::size_t>(block_shape(layout).copies)),
        read(values.size()) {}

  void store() {
    for (std::size_t i = 0; i < values.size(); ++i)
      words[i] = encode(layout.format, values[i], scale);
    encode_block(layout, words.data(), static_cast<int>(words.size()), stored.data(), &check);
  }
  void read_back() {
    decode_block(layout, stored.data(), static_cast<int>(read.size()), check, read.data());
    for (std::size_t i = 0; i < values.size(); ++i) {
      EXPECT_FALSE(read[i].flagged) << layout_name(layout);
      values[i] = decode(layout.format, read[i].word, scale);
    }
  }

  Layout layout;
  float scale = 1;
  std::vector<float> values;
  std::vector<Word> words, stored;
  Word check = 0;
  std::vector<ReadWord> read;
};

/// Up to this magnitude, and some of any bits.
float random_value(Rng& rng, float amax) {
  const std::array<float, 8> special = {NAN,   -NAN,    INFINITY, -INFINITY,
                                        -0.0f, FLT_MAX, -FLT_MAX, 1e-45f};
  if (rng.below(64) == 0) return special[rng.below(8)];
  if (rng.below(8) == 0) return any_float(rng);
  return static_cast<float>(static_cast<double>(amax) * (2 * rng.uniform() - 1));
}

TEST(Layouts, StoreAValueThatWasReadAsItWasStored) {
  EXPECT_GT(layouts().size(), 90u);
  for (const std::string& name : layouts()) {
    Rng rng = make_rng();
    Block block(name);
    for (std::size_t done = 0; done < 100'000; done += block.values.size()) {
      const float any = std::fabs(any_float(rng));
      const float amax = std::isfinite(any) && rng.below(2) == 0 ? any : 0.7f;
      block.scale = scale_of(block.layout.format, amax);
      for (float& value : block.values) value = random_value(rng, amax);
      block.store();
      const auto stored = block.stored;
      const Word check = block.check;
      block.read_back();
      block.store();
      ASSERT_EQ(block.stored, stored) << name << " at " << block.scale << ", seed " << kSeed;
      ASSERT_EQ(block.check, check) << name;
    }
  }
}

TEST(Layouts, KeepNumbersNumbers) {
  // A code that changes low bits must not make infinity or NaN of a number.
  for (const std::string& name : layouts()) {
    Rng rng = make_rng();
    Block block(name);
    block.scale = scale_of(block.layout.format, 2);
    for (int i = 0; i < 2000; ++i) {
      for (float& value : block.values) value = static_cast<float>(4 * rng.uniform() - 2);
      block.values[0] = i % 2 ? 2 : -2;
      block.store();
      block.read_back();
      for (const float value : block.values) ASSERT_TRUE(std::isfinite(value)) << name;
    }
  }
}

// ---- what bits mean ----------------------------------------------------------------------------

TEST(BitClasses, AreThoseOfTheFormats) {
  const auto classes = [](const char* name) {
    std::string text;
    for (const auto& bits : bit_classes(format_of(name))) {
      text += text.empty() ? "" : " | ";
      text += std::to_string(bits.front());
      if (bits.size() > 1) text += "-" + std::to_string(bits.back());
    }
    return text;
  };
  EXPECT_EQ(classes("fp32"), "30 | 29-27 | 26-23 | 31 | 22-19 | 18-0");
  EXPECT_EQ(classes("fp16"), "14 | 13-12 | 11-10 | 15 | 9-6 | 5-0");
  EXPECT_EQ(classes("bf16"), "14 | 13-11 | 10-7 | 15 | 6-0");
  EXPECT_EQ(classes("fp8:e4m3"), "6 | 5 | 4-3 | 7 | 2-0");
  EXPECT_EQ(classes("fp8:e5m2"), "6 | 5 | 4-2 | 7 | 1-0");
  EXPECT_EQ(classes("int8"), "7 | 6 | 5 | 4-0");
  EXPECT_EQ(classes("int4"), "3 | 2 | 1 | 0");
  EXPECT_EQ(classes("int3"), "2 | 1 | 0");
  EXPECT_EQ(classes("int2"), "1 | 0");
  EXPECT_EQ(classes("fixed:3.12"), "15 | 14 | 13 | 12-0");
}

TEST(BitClasses, HaveEveryBitOnce) {
  for (const std::string& name : layouts()) {
    const NumberFormat format = parse_layout(name).format;
    std::vector<int> all, wanted;
    for (const auto& bits : bit_classes(format)) all.insert(all.end(), bits.begin(), bits.end());
    std::sort(all.begin(), all.end());
    for (int bit = 0; bit < word_bits(format); ++bit) wanted.push_back(bit);
    EXPECT_EQ(all, wanted) << name;
  }
}

TEST(BitRoles, CountSignExponentAndMantissa) {
  const auto roles = [](const char* name) {
    const NumberFormat format = format_of(name);
    std::string text;
    for (int bit = word_bits(format) - 1; bit >= 0; --bit)
      text += "sem"[static_cast<int>(role_of(format, bit))];
    return text;
  };
  EXPECT_EQ(roles("fp32"), "s" + std::string(8, 'e') + std::string(23, 'm'));
  EXPECT_EQ(roles("fp16"), "s" + std::string(5, 'e') + std::string(10, 'm'));
  EXPECT_EQ(roles("bf16"), "s" + std::string(8, 'e') + std::string(7, 'm'));
  EXPECT_EQ(roles("fp8:e4m3"), "seeeemmm");
  EXPECT_EQ(roles("fp8:e5m2"), "seeeeemm");
  EXPECT_EQ(roles("int5"), "smmmm");
  EXPECT_EQ(roles("fixed:1.2"), "smmm");
}

TEST(CriticalBits, MakeHugeValuesOfSmallOnes) {
  EXPECT_EQ(critical_bit(format_of("fp32")), 30);
  EXPECT_EQ(critical_bit(format_of("fp16")), 14);
  EXPECT_EQ(critical_bit(format_of("bf16")), 14);
  EXPECT_EQ(critical_bit(format_of("fp8:e4m3")), 6);
  EXPECT_EQ(critical_bit(format_of("fp8:e5m2")), 6);
  EXPECT_EQ(critical_bit(format_of("int8")), std::nullopt);
  EXPECT_EQ(critical_bit(format_of("fixed:3.12")), std::nullopt);
}

}  // namespace
}  // namespace sentinel
