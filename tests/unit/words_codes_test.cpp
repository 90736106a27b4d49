#include <gtest/gtest.h>

#include <cfloat>
#include <cmath>
#include <set>

#include "sentinel/core/rng.hpp"
#include "unit/words_reference.hpp"

namespace sentinel {
namespace {

using test::Bits;
using test::Memory;

constexpr std::uint64_t kSeed = 31;

/// A block as the code under test stores it.
struct Stored {
  std::vector<Word> words;
  Word check = 0;
  bool operator==(const Stored& o) const { return words == o.words && check == o.check; }
};

Stored encoded(const Layout& layout, const std::vector<Word>& words) {
  const auto copies = static_cast<std::size_t>(block_shape(layout).copies);
  Stored stored;
  stored.words.resize(copies * words.size());
  encode_block(layout, words.data(), static_cast<int>(words.size()), stored.words.data(),
               &stored.check);
  return stored;
}

std::vector<ReadWord> decoded(const Layout& layout, const Stored& stored) {
  const auto copies = static_cast<std::size_t>(block_shape(layout).copies);
  std::vector<ReadWord> words(stored.words.size() / copies);
  decode_block(layout, stored.words.data(), static_cast<int>(words.size()), stored.check,
               words.data());
  return words;
}

Stored as_words(const Memory& memory) {
  Stored stored;
  for (const Bits& word : memory.words) stored.words.push_back(test::to_word(word));
  stored.check = test::to_word(memory.check);
  return stored;
}

bool same(const std::vector<ReadWord>& a, const std::vector<ReadWord>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](ReadWord x, ReadWord y) {
    return x.word == y.word && x.flagged == y.flagged;
  });
}

/// A block in both forms, so that a flip reaches both.
struct Pair {
  Memory memory;
  Stored stored;
  int bits() const {
    const auto width = memory.words[0].size();
    return static_cast<int>(memory.words.size() * width + memory.check.size());
  }
  void flip(int bit) {
    const auto width = static_cast<int>(memory.words[0].size());
    const auto word = static_cast<std::size_t>(bit / width);
    if (word < memory.words.size()) {
      test::at(memory.words[word], bit % width) ^= 1;
      stored.words[word] ^= Word{1} << (bit % width);
    } else {
      const int check = bit - width * static_cast<int>(memory.words.size());
      test::at(memory.check, check) ^= 1;
      stored.check ^= Word{1} << check;
    }
  }
};

std::vector<Word> random_words(const Layout& layout, std::size_t count, Rng& rng) {
  std::vector<Word> words(count);
  for (Word& word : words) word = rng.bits64() >> (64 - word_bits(layout.format));
  return words;
}

std::vector<Word> random_block(const Layout& layout, Rng& rng) {
  return random_words(layout, static_cast<std::size_t>(block_shape(layout).words), rng);
}

class Codes : public testing::TestWithParam<const char*> {
 protected:
  const Layout layout = parse_layout(GetParam());
  Rng rng{{kSeed, 0, 0, Purpose::kShuffle}};

  Pair block(const std::vector<Word>& words) const {
    return {test::reference_encode(layout, words), encoded(layout, words)};
  }
  /// Whether both read the same.
  testing::AssertionResult agrees(const Pair& pair) const {
    const auto ours = decoded(layout, pair.stored);
    const auto theirs = test::reference_decode(layout, pair.memory);
    if (same(ours, theirs)) return testing::AssertionSuccess();
    auto failure = testing::AssertionFailure() << GetParam() << " reads" << std::hex;
    for (const Word word : pair.stored.words) failure << " " << word;
    failure << " check " << pair.stored.check << " as";
    for (const ReadWord& word : ours) failure << " " << word.word << (word.flagged ? "!" : "");
    failure << ", the reference as";
    for (const ReadWord& word : theirs) failure << " " << word.word << (word.flagged ? "!" : "");
    return failure;
  }
  void random_flips(int blocks);
};

TEST_P(Codes, StoreAsTheReferenceDoes) {
  for (int i = 0; i < 2000; ++i) {
    const auto words = random_block(layout, rng);
    const Pair pair = block(words);
    ASSERT_EQ(pair.stored.words, as_words(pair.memory).words);
    ASSERT_EQ(pair.stored.check, as_words(pair.memory).check);
    ASSERT_TRUE(agrees(pair));
  }
}

TEST_P(Codes, HaveTheShapeThatTheyState) {
  const BlockShape shape = block_shape(layout);
  const Memory memory = test::reference_encode(layout, random_block(layout, rng));
  EXPECT_EQ(memory.words.size(), static_cast<std::size_t>(shape.words * shape.copies));
  EXPECT_EQ(memory.words[0].size(), static_cast<std::size_t>(shape.stored_bits));
  EXPECT_EQ(memory.check.size(), static_cast<std::size_t>(shape.check_bits));
}

TEST_P(Codes, ReadSingleAndDoubleFlipsOfEveryPositionAsTheReferenceDoes) {
  for (int i = 0; i < 2; ++i) {
    Pair pair = block(random_block(layout, rng));
    for (int a = 0; a < pair.bits(); ++a) {
      pair.flip(a);
      ASSERT_TRUE(agrees(pair));
      for (int b = a + 1; b < pair.bits(); ++b) {
        pair.flip(b);
        ASSERT_TRUE(agrees(pair));
        pair.flip(b);
      }
      pair.flip(a);
    }
  }
}

void Codes::random_flips(int blocks) {
  for (int i = 0; i < blocks; ++i) {
    Pair pair = block(random_block(layout, rng));
    const auto bits = static_cast<std::uint64_t>(pair.bits());
    const std::uint64_t flips = 3 + rng.below(std::min<std::uint64_t>(bits - 3, 14));
    std::set<std::uint64_t> hit;
    while (hit.size() < flips) hit.insert(rng.below(bits));
    for (const std::uint64_t bit : hit) pair.flip(static_cast<int>(bit));
    ASSERT_TRUE(agrees(pair)) << "block " << i << " of seed " << kSeed;
  }
}

TEST_P(Codes, ReadThreeAndMoreRandomFlipsAsTheReferenceDoes) {
  // Each of these is compared with 65 536 codewords.
  const bool slow = layout.code->kind == Code::Kind::kBch && layout.code->k == 16;
  random_flips(slow ? 20'000 : 100'000);
}

TEST_P(Codes, DISABLED_ReadAMillionRandomFlipsAsTheReferenceDoes) {
  random_flips(1'000'000);
}

TEST_P(Codes, ReadIncompleteBlocksAsTheReferenceDoes) {
  const auto words = static_cast<std::size_t>(block_shape(layout).words);
  for (std::size_t count = 1; count < words; ++count) {
    Pair pair = block(random_words(layout, count, rng));
    ASSERT_EQ(pair.stored, as_words(pair.memory));
    ASSERT_TRUE(agrees(pair));
    for (int i = 0; i < 3000; ++i) {
      pair.flip(static_cast<int>(rng.below(static_cast<std::uint64_t>(pair.bits()))));
      ASSERT_TRUE(agrees(pair));
    }
  }
}

TEST_P(Codes, MessageBitsAreThoseThatAStoredWordTakesFromItsWord) {
  // A check bit is one that the code sets: it does not follow the word's bit in its place.
  if (layout.code->kind == Code::Kind::kBch || layout.code->kind == Code::Kind::kSpw) {
    int messages = 0;
    for (int bit = 0; bit < block_shape(layout).stored_bits; ++bit)
      messages += is_message_bit(layout, bit);
    EXPECT_EQ(messages, word_bits(layout.format));
    return;
  }
  for (int bit = 0; bit < word_bits(layout.format); ++bit) {
    std::vector<Word> words = random_block(layout, rng);
    words[0] &= ~(Word{1} << bit);
    const Word without = encoded(layout, words).words[0];
    words[0] |= Word{1} << bit;
    const Word with = encoded(layout, words).words[0];
    EXPECT_EQ(is_message_bit(layout, bit), ((without ^ with) >> bit & 1) == 1) << bit;
  }
}

std::string test_name(const testing::TestParamInfo<const char*>& info) {
  std::string name = info.param;
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return name;
}

INSTANTIATE_TEST_SUITE_P(
    All, Codes,
    testing::Values("int8+repeat:3", "fp16+repeat:7", "fp32+repeat:5", "int4+repeat:31",
                    "fp32+mset", "fp16+mset", "fp32+cep:d3", "fp32+cep:d7", "fp32+cep:d15",
                    "fp16+cep:d3", "fp16+cep:d7", "fp16+cep:d15", "fp32+parity", "fp16+parity",
                    "bf16+parity", "int8+parity", "int4+parity", "fp8:e5m2+parity",
                    "fixed:3.12+parity", "fp32+tmr:sign-exponent", "fp32+tmr:30",
                    "fp32+tmr:31,30,26,25,24", "fp16+tmr:14,13,12", "bf16+tmr:14", "int8+tmr:7,6",
                    "fp32+secded:64", "fp16+secded:64", "int8+secded:64", "int2+secded:64",
                    "fixed:31.32+secded:64", "fp32+secded:64,zero", "fp32+secded:128",
                    "int4+secded:128,zero", "fp32+spw", "fp16+spw", "int8+spw", "fp8:e4m3+spw",
                    "int7+zero-space", "int4+bch:8,4", "fixed:1.2+bch:8,4", "int5+bch:16,5",
                    "int7+bch:16,7", "int11+bch:16,11", "int6+bch:32,6", "int11+bch:32,11",
                    "int16+bch:32,16", "int21+bch:32,21", "int26+bch:32,26"),
    test_name);

/// A value, its word, the stored word, and the word read with these bits flipped.
struct Vector {
  const char* layout;
  float value;
  Word word, stored, read;
  Word flipped = 0;
};

TEST(CodeVectors, AreThoseOfTheDefinition) {
  const Word bit30 = Word{1} << 30;
  for (const Vector& v : std::vector<Vector>{
           {"fp32+mset", 0.1f, 0x3DCCCCCD, 0x3DCCCCCC, 0x3DCCCCCC},
           {"fp32+cep:d3", 0.1f, 0x3DCCCCCD, 0x3DCCCCD3, 0x3DCCCC00},
           {"fp32+cep:d3", 0.1f, 0x3DCCCCCD, 0x3DCCCCD3, 0x1DCCCC00, bit30},
           {"fp32+cep:d3", -0.05f, 0xBD4CCCCD, 0xBD4CCC73, 0xBD4CCC00},
           {"fp32+mset", 2.0f, 0x40000000, 0x40000003, 0x40000003},
           {"fp32+mset", 2.0f, 0x40000000, 0x40000003, 0x40000003, bit30},
           {"fp32+cep:d3", 2.0f, 0x40000000, 0x40000080, 0x40000000},
           {"fp16+mset", 0.1f, 0x2E66, 0x2E64, 0x2E64},
           {"fp16+cep:d3", 0.1f, 0x2E66, 0x2E6A, 0x2E60},
           {"fp32+tmr:sign-exponent", 1.015625f, 0x3F820000, 0x3F80FE7F, 0x3F800000},  // ties
           {"fp32+tmr:sign-exponent", 1.046875f, 0x3F860000, 0x3F88FE7F, 0x3F880000},
           {"fp32+tmr:sign-exponent", FLT_MAX, 0x7F7FFFFF, 0x7F81FEFF, 0x7F800000}}) {
    const Layout layout = parse_layout(v.layout);
    const Word word = encode(layout.format, v.value);
    EXPECT_EQ(word, v.word) << v.layout;
    Stored stored = encoded(layout, {word});
    EXPECT_EQ(stored.words[0], v.stored) << v.layout;
    stored.words[0] ^= v.flipped;
    EXPECT_EQ(decoded(layout, stored)[0].word, v.read) << v.layout;
  }
}

/// Two codewords differ in at least this many bits.
TEST(BchDistances, AreThoseOfTheCodes) {
  for (const auto& [text, distance] :
       std::vector<std::pair<const char*, int>>{{"int4+bch:8,4", 4},
                                                {"int5+bch:16,5", 8},
                                                {"int7+bch:16,7", 6},
                                                {"int11+bch:16,11", 4},
                                                {"int6+bch:32,6", 16},
                                                {"int11+bch:32,11", 12},
                                                {"int16+bch:32,16", 8},
                                                {"int21+bch:32,21", 6},
                                                {"int26+bch:32,26", 4}}) {
    const Layout layout = parse_layout(text);
    const Word words = Word{1} << std::min(layout.code->k, 21);
    int least = 64;
    for (Word word = 1; word < words; ++word)
      least = std::min(least, __builtin_popcountll(encoded(layout, {word}).words[0]));
    EXPECT_EQ(least, distance) << text;
  }
}

/// Words that are read wrongly in bit 30 of 250 000 weights below 2 are binomial.
TEST(HighestExponentBit, IsReadWronglyAsOftenAsTheCodeSays) {
  constexpr int kWords = 250'000;
  for (const double p : {1e-2, 1e-1}) {
    const double majority = 3 * p * p - 2 * p * p * p;
    const double chunk = 3 * p * p * (1 - p) * (1 - p) + p * p * p * p;
    for (const auto& [text, q] :
         std::vector<std::pair<const char*, double>>{{"fp32+mset", majority},
                                                     {"fp32+tmr:31,30,26", majority},
                                                     {"fp32+tmr:sign-exponent", majority},
                                                     {"fp32+cep:d3", chunk}}) {
      const Layout layout = parse_layout(text);
      Rng rng({kSeed, 0, 0, Purpose::kFaults});
      int wrong = 0;
      for (int i = 0; i < kWords; ++i) {
        const Word word = encode(layout.format, static_cast<float>(3.8 * rng.uniform() - 1.9));
        Stored stored = encoded(layout, {word});
        for (int bit = 0; bit < 32; ++bit)
          if (rng.uniform() < p) stored.words[0] ^= Word{1} << bit;
        wrong += ((decoded(layout, stored)[0].word ^ word) >> 30 & 1) != 0;
      }
      const double deviation = std::sqrt(kWords * q * (1 - q));
      EXPECT_LT(std::fabs(wrong - kWords * q), 4 * deviation)  // of 8 cases: 1 in 2 000
          << text << " at " << p << " with seed " << kSeed;
    }
  }
}

}  // namespace
}  // namespace sentinel
