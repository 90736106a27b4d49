#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <map>

#include "sentinel/core/rng.hpp"
#include "sentinel/words/misreads.hpp"
#include "unit/tolerances.hpp"

namespace sentinel {
namespace {

constexpr std::uint64_t kSeed = 41;

/// Reads flips on top of the stored form of a word, against what is read without them.
bool read_wrongly(const Layout& layout, Word word, const std::vector<Word>& flips) {
  const BlockShape shape = block_shape(layout);
  std::vector<Word> stored(static_cast<std::size_t>(shape.copies));
  Word check = 0;
  encode_block(layout, &word, 1, stored.data(), &check);
  ReadWord clean, read;
  decode_block(layout, stored.data(), 1, check, &clean);
  for (std::size_t i = 0; i < stored.size(); ++i) stored[i] ^= flips[i];
  decode_block(layout, stored.data(), 1, check, &read);
  return read.flagged || read.word != clean.word;
}

/// By number of flips, how many patterns of all stored bits (at most 20) are read wrongly.
std::vector<double> by_brute_force(const Layout& layout, Word word) {
  const BlockShape shape = block_shape(layout);
  const int bits = shape.copies * shape.stored_bits;
  std::vector<double> wrong(static_cast<std::size_t>(bits) + 1);
  std::vector<Word> flips(static_cast<std::size_t>(shape.copies));
  for (Word pattern = 0; pattern < Word{1} << bits; ++pattern) {
    for (std::size_t i = 0; i < flips.size(); ++i)
      flips[i] = pattern >> (static_cast<int>(i) * shape.stored_bits) &
                 ((Word{1} << shape.stored_bits) - 1);
    if (read_wrongly(layout, word, flips))
      ++wrong[static_cast<std::size_t>(__builtin_popcountll(pattern))];
  }
  return wrong;
}

double probability(const std::vector<double>& wrong, double ber) {
  double sum = 0;
  const auto bits = static_cast<double>(wrong.size() - 1);
  for (std::size_t flips = 0; flips < wrong.size(); ++flips)
    sum += wrong[flips] * std::pow(ber, flips) * std::pow(1 - ber, bits - double(flips));
  return sum;
}

TEST(Misreads, AreThoseOfAllPatternsWhateverTheWord) {
  for (const char* name :
       {"int4+bch:8,4", "int5+bch:16,5", "int7+bch:16,7", "int11+bch:16,11", "int5+repeat:3",
        "int3+repeat:5", "int2+repeat:7", "int8", "fp16", "int8+spw", "int8+parity", "fp16+mset",
        "int8+tmr:7", "fp16+tmr:15,14", "fp16+cep:d3", "fp16+cep:d7", "fp16+cep:d15"}) {
    SCOPED_TRACE(name);
    const Layout layout = parse_layout(name);
    const Misreads misreads = Misreads::of(layout);
    // A chunk of cep that is 0 already is read as 0 with flips too.
    const bool cep = layout.code && layout.code->kind == Code::Kind::kCep;
    for (const Word word : {Word{0}, Word{1}, Word{3}, Word{0x3333}}) {
      if (cep && word != 0x3333) continue;
      if (word >> word_bits(layout.format) != 0) continue;
      const std::vector<double> wrong = by_brute_force(layout, word);
      for (const double ber : {1e-6, 1e-3, 1e-1, 0.5, 1.0})
        EXPECT_NEAR(misreads.of_word(ber) / probability(wrong, ber), 1, test::kDoubles);
    }
    EXPECT_EQ(misreads.of_word(0), 0);
  }
}

TEST(Misreads, TellPatternsThatAreReadWrongly) {
  for (const char* name : {"int4+bch:8,4", "int5+bch:16,5", "int11+bch:16,11", "int8+spw",
                           "int8+tmr:7", "fp16+mset", "fp16+tmr:15,14", "int8+parity"}) {
    const Layout layout = parse_layout(name);
    const Misreads misreads = Misreads::of(layout);
    for (Word flips = 0; flips < Word{1} << misreads.bits(); ++flips)
      ASSERT_EQ(misreads.is_wrong(flips), read_wrongly(layout, 2, {flips})) << name << flips;
  }
}

/// A block of random words, read with flips of its stored bits.
class RandomBlock {
 public:
  RandomBlock(const Layout& layout, const CodedWords& words, Rng& rng)
      : layout_(layout), words_(words), shape_(block_shape(layout)) {
    std::vector<Word> plain;
    for (int i = 0; i < words.words; ++i)
      plain.push_back(rng.bits64() >> (64 - word_bits(layout.format)));
    stored_.resize(plain.size());
    encode_block(layout, plain.data(), words.words, stored_.data(), &check_);
    clean_ = read(stored_, check_);
  }
  int bits() const { return words_.words * shape_.stored_bits + shape_.check_bits; }
  bool read_wrongly(const Misreads& misreads, const Flips& flips) const {
    std::vector<Word> stored = stored_;
    Word check = check_;
    flips.each([&](int bit) {
      const int place = misreads.place(0, bit), data = words_.words * shape_.stored_bits;
      Word& word =
          place < data ? stored[static_cast<std::size_t>(place / shape_.stored_bits)] : check;
      word ^= Word{1} << (place < data ? place % shape_.stored_bits : place - data);
    });
    const std::vector<ReadWord> faulty = read(stored, check);
    for (std::size_t i = 0; i < faulty.size(); ++i)
      if (faulty[i].flagged || faulty[i].word != clean_[i].word) return true;
    return false;
  }

 private:
  std::vector<ReadWord> read(const std::vector<Word>& stored, Word check) const {
    std::vector<ReadWord> read(stored.size());
    decode_block(layout_, stored.data(), words_.words, check, read.data());
    return read;
  }
  Layout layout_;
  CodedWords words_;
  BlockShape shape_;
  std::vector<Word> stored_;
  Word check_ = 0;
  std::vector<ReadWord> clean_;
};

/// Calls visit(flips) with all patterns of `count` of the first `bits` bits.
template <class Visit>
void all_patterns(int bits, int count, const Visit& visit, Flips flips = {}, int from = 0) {
  if (count == 0) return visit(flips);
  for (int bit = from; bit <= bits - count; ++bit) {
    Flips more = flips;
    more.set(bit);
    all_patterns(bits, count - 1, visit, more, bit + 1);
  }
}

struct CodedBlock {
  const char* layout;
  CodedWords words;
  int most;  // flips
};

/// All patterns of few flips in blocks of random words.
TEST(Misreads, OfBlocksAreThoseOfAllPatternsOfFewFlips) {
  Rng rng({kSeed, 0, 2, Purpose::kFaults});
  for (const auto& [name, words, most] :
       {CodedBlock{"int8+secded:64", {8, true}, 3}, CodedBlock{"int8+secded:64", {8, false}, 3},
        CodedBlock{"int8+secded:64", {3, true}, 4}, CodedBlock{"fp16+secded:64,zero", {4, true}, 3},
        CodedBlock{"int4+secded:128", {32, true}, 3},
        CodedBlock{"fp32+secded:128,zero", {1, true}, 4}, CodedBlock{"fp32+spw", {1, false}, 4},
        CodedBlock{"fp16+spw", {1, false}, 5}, CodedBlock{"int7+zero-space", {8, false}, 4},
        CodedBlock{"int7+zero-space", {1, false}, 8}}) {
    SCOPED_TRACE(name);
    const Layout layout = parse_layout(name);
    const Misreads misreads = Misreads::of(layout, words);
    const RandomBlock block(layout, words, rng);
    for (int flips = 0; flips <= most; ++flips) {
      double wrong = 0;
      std::uint64_t disagree = 0;
      all_patterns(misreads.bits(), flips, [&](const Flips& own) {
        const bool found = block.read_wrongly(misreads, own);
        wrong += found ? 1 : 0;
        disagree += found == misreads.is_wrong(own) ? 0 : 1;
      });
      EXPECT_EQ(disagree, 0u) << flips;
      EXPECT_EQ(misreads.wrong()[static_cast<std::size_t>(flips)], wrong) << flips;
    }
  }
}

/// The byte that has no check bit has a bit that nobody reads: a codeword of six flips is harmless,
/// and with it all patterns that are corrected to it.
TEST(Misreads, OfZeroSpaceKnowTheBitThatIsNotRead) {
  const Misreads misreads = Misreads::of(parse_layout("int7+zero-space"));
  const double all5 = 7624512, all6 = 74974368, all7 = 621216192;
  EXPECT_EQ(misreads.wrong()[5], all5 - 6);
  EXPECT_EQ(misreads.wrong()[6], all6 - 1);
  EXPECT_EQ(misreads.wrong()[7], all7 - 58);
}

/// Many flips of random blocks, which are read as Misreads tells.
TEST(Misreads, TellRandomPatternsOfBlocks) {
  Rng rng({kSeed, 0, 3, Purpose::kFaults});
  for (const char* name : {"int8+secded:64", "int8+secded:128", "fp32+secded:64,zero", "fp32+spw",
                           "int7+zero-space"}) {
    const Layout layout = parse_layout(name);
    const CodedWords words = whole_block(layout);
    const Misreads misreads = Misreads::of(layout, words);
    double wrong = 0, expected = 0;
    constexpr int kPatterns = 40000;
    for (int i = 0; i < kPatterns; ++i) {
      const double ber = i % 2 == 0 ? 0.01 : 0.05;
      const RandomBlock block(layout, words, rng);
      Flips flips;
      for (int bit = 0; bit < misreads.bits(); ++bit)
        if (rng.uniform() < ber) flips.set(bit);
      const bool found = block.read_wrongly(misreads, flips);
      ASSERT_EQ(found, misreads.is_wrong(flips)) << name;
      wrong += found ? 1 : 0;
      expected += misreads.of_part(ber);
    }
    EXPECT_NEAR(wrong, expected, 5 * std::sqrt(expected)) << name;
  }
}

/// Whether the critical bit is read as 1 in a word where it is 0.
bool is_critical_misread(const Layout& layout, Word word, Word flips) {
  Word stored = 0, check = 0;
  encode_block(layout, &word, 1, &stored, &check);
  stored ^= flips;
  ReadWord read;
  decode_block(layout, &stored, 1, check, &read);
  return !read.flagged && (read.word >> *critical_bit(layout.format) & 1) != 0;
}

/// A part's flips among those of a word.
Flips in_part(const Misreads& misreads, Word flips) {
  Flips own;
  for (int bit = 0; bit < misreads.bits(); ++bit)
    if (flips >> misreads.place(0, bit) & 1) own.set(bit);
  return own;
}

TEST(CriticalMisreads, AreThoseOfAllPatterns) {
  for (const char* name :
       {"fp16", "bf16", "fp16+mset", "fp16+cep:d3", "fp16+cep:d7", "fp16+cep:d15", "fp16+parity",
        "fp16+tmr:15,14", "fp16+tmr:15", "fp8:e5m2+parity"}) {
    SCOPED_TRACE(name);
    const Layout layout = parse_layout(name);
    const Misreads misreads = *Misreads::of_critical_bit(layout);
    const int width = word_bits(layout.format);
    for (const Word word : {Word{0}, Word{0x1234} >> (16 - width)}) {
      std::vector<double> wrong(static_cast<std::size_t>(width) + 1);
      for (Word flips = 0; flips < Word{1} << width; ++flips) {
        const bool found = is_critical_misread(layout, word, flips);
        ASSERT_EQ(misreads.is_wrong(in_part(misreads, flips)), found) << flips;
        if (found) ++wrong[static_cast<std::size_t>(__builtin_popcountll(flips))];
      }
      for (const double ber : {1e-6, 1e-3, 0.1, 0.5})
        EXPECT_NEAR(misreads.of_word(ber) / probability(wrong, ber), 1, test::kDoubles);
    }
  }
}

TEST(CriticalMisreads, OfFp32FollowTheLaw) {
  const auto law = [](const char* name, double p) {
    return Misreads::of_critical_bit(parse_layout(name))->of_word(p);
  };
  for (const double p : {1e-6, 1e-3, 0.1}) {
    const double majority = 3 * p * p - 2 * p * p * p;
    for (const char* name : {"fp32+mset", "fp32+tmr:sign-exponent", "fp32+tmr:31,30"})
      EXPECT_NEAR(law(name, p) / majority, 1, test::kDoubles) << name;
    EXPECT_NEAR(law("fp32+cep:d3", p) / (3 * p * p * (1 - p) * (1 - p) + p * p * p * p), 1,
                test::kDoubles);
    // p times the probability of an odd number of flips among the 31 others; 1 - (1 - 2p)^31 loses
    // four digits at 1e-6.
    EXPECT_NEAR(law("fp32+parity", p) / (p * (1 - std::pow(1 - 2 * p, 31)) / 2), 1, 1e-9);
  }
  Rng rng({kSeed, 0, 4, Purpose::kFaults});
  for (const char* name : {"fp32+mset", "fp32+tmr:sign-exponent", "fp32+tmr:31,30", "fp32+cep:d3",
                           "fp32+cep:d7", "fp32+cep:d15", "fp32+parity"}) {
    const Layout layout = parse_layout(name);
    const Misreads misreads = *Misreads::of_critical_bit(layout);
    for (int i = 0; i < 100000; ++i) {
      Word flips = rng.bits64() & rng.bits64() & 0xFFFFFFFF;
      if (i % 2 == 0) flips &= rng.bits64();
      ASSERT_EQ(is_critical_misread(layout, 0x3DCC0000, flips),
                misreads.is_wrong(in_part(misreads, flips)))
          << name << " " << flips;
    }
  }
}

TEST(CriticalMisreads, AreOfBareBitsAlone) {
  for (const char* name : {"int8+parity", "int8", "fp32+spw", "fp32+secded:64", "fp16+repeat:3"})
    EXPECT_FALSE(Misreads::of_critical_bit(parse_layout(name))) << name;
}

/// |Walsh coefficients| of a function of four variables, the first with its sign.
std::array<int, 16> spectrum(unsigned function) {
  std::array<int, 16> w{};
  for (std::size_t i = 0; i < 16; ++i) w[i] = (function >> i & 1) != 0 ? -1 : 1;
  for (std::size_t h = 1; h < 16; h *= 2)
    for (std::size_t i = 0; i < 16; ++i)
      if ((i & h) == 0) {
        const int a = w[i], b = w[i + h];
        w[i] = a + b;
        w[i + h] = a - b;
      }
  for (std::size_t i = 1; i < 16; ++i) w[i] = std::abs(w[i]);
  return w;
}

/// A pattern of flips is read right where its distance to no other codeword is as small. Of the
/// Reed-Muller code of order 1 distances are Walsh coefficients, and those of (u, v) are of u +- v.
TEST(Misreads, OfBch32And6AreCountedByWalshSpectra) {
  std::map<std::array<int, 16>, double> halves;
  for (unsigned function = 0; function < 65536; ++function) {
    const auto w = spectrum(function);
    if (w[0] > 0) ++halves[w];
  }
  std::vector<double> right(33);
  for (const auto& [u, functions] : halves)
    for (const auto& [v, others] : halves) {
      bool only = true;
      for (std::size_t i = 1; i < 16; ++i) only = only && u[i] + v[i] < u[0] + v[0];
      if (only) right[static_cast<std::size_t>(32 - u[0] - v[0]) / 2] += functions * others;
    }
  const std::vector<double> wrong = Misreads::of(parse_layout("int6+bch:32,6")).wrong();
  double patterns = 1;
  for (std::size_t flips = 0; flips <= 32; ++flips) {
    EXPECT_EQ(wrong[flips], patterns - right[flips]) << flips;
    patterns = patterns * static_cast<double>(32 - flips) / static_cast<double>(flips + 1);
  }
}

/// Words read wrongly per trial ~ Binomial(words, q): chi-square of 200 trials, classes of at least
/// five expected trials.
double p_value_of_counts(const std::vector<int>& counts, int words, double q) {
  std::vector<double> expected(static_cast<std::size_t>(words) + 1), observed(expected.size());
  for (const int count : counts) ++observed[static_cast<std::size_t>(count)];
  double probability = std::exp(words * std::log1p(-q));
  for (int k = 0; k <= words; ++k) {
    expected[static_cast<std::size_t>(k)] = probability * static_cast<double>(counts.size());
    probability *= static_cast<double>(words - k) / (k + 1) * q / (1 - q);
  }
  double chi_square = 0, e = 0, o = 0;
  int classes = 0;
  double e_left = static_cast<double>(counts.size());
  for (std::size_t k = 0; k < expected.size(); ++k) {
    e += expected[k];
    o += observed[k];
    e_left -= expected[k];
    if (e < 5 || (e_left < 5 && k + 1 < expected.size())) continue;
    chi_square += (o - e) * (o - e) / e;
    ++classes;
    e = o = 0;
  }
  if (classes < 2) return 1;
  // Wilson and Hilferty's normal approximation.
  const double n = classes - 1;
  const double z = (std::cbrt(chi_square / n) - (1 - 2 / (9 * n))) / std::sqrt(2 / (9 * n));
  return std::erfc(z / std::sqrt(2)) / 2;
}

TEST(Misreads, FollowTheBinomialLaw) {
  constexpr int kTrials = 200;
  Rng rng({kSeed, 0, 0, Purpose::kFaults});
  for (const char* name : {"int6+bch:32,6", "int11+bch:32,11", "int16+bch:32,16", "int21+bch:32,21",
                           "int26+bch:32,26", "fp16+repeat:3", "int4+bch:8,4"})
    for (const double ber : {1e-3, 1e-2, 1e-1}) {
      const Layout layout = parse_layout(name);
      const BlockShape shape = block_shape(layout);
      const double q = Misreads::of(layout).of_word(ber);
      const int words = static_cast<int>(std::clamp(3 / q, 20.0, 2000.0));
      std::vector<int> counts;
      for (int trial = 0; trial < kTrials; ++trial) {
        int wrong = 0;
        for (int word = 0; word < words; ++word) {
          std::vector<Word> flips(static_cast<std::size_t>(shape.copies));
          for (Word& own : flips)
            for (int bit = 0; bit < shape.stored_bits; ++bit)
              own |= Word{rng.uniform() < ber} << bit;
          wrong += read_wrongly(layout, 1, flips) ? 1 : 0;
        }
        counts.push_back(wrong);
      }
      EXPECT_GT(p_value_of_counts(counts, words, q), 1e-4) << name << " " << ber;
    }
}

TEST(SingleFlips, AreCorrectedByTheseCodesAlone) {
  for (const char* name : {"int6+bch:32,6", "int4+bch:8,4", "int26+bch:32,26", "fp32+repeat:3",
                           "int8+secded:64", "int8+secded:128,zero", "fp32+spw", "int7+zero-space"})
    EXPECT_TRUE(corrects_single_flips(parse_layout(name))) << name;
  for (const char* name : {"fp32", "int8", "fp32+mset", "fp32+cep:d3", "int8+parity",
                           "fp32+tmr:sign-exponent", "fp32+tmr:31,30"})
    EXPECT_FALSE(corrects_single_flips(parse_layout(name))) << name;
}

TEST(SingleFlips, OfTheseBitsAreCorrectedAndOthersChangeSomeWord) {
  Rng rng({kSeed, 0, 1, Purpose::kFaults});
  for (const char* name :
       {"fp32", "fp32+mset", "fp16+mset", "fp32+cep:d3", "int8+parity", "fp32+tmr:sign-exponent",
        "fp32+tmr:31,30", "int8+tmr:7", "fp32+spw", "int4+bch:8,4"}) {
    const Layout layout = parse_layout(name);
    const std::vector<int> corrected = corrected_bits(layout);
    for (int bit = 0; bit < block_shape(layout).stored_bits; ++bit) {
      bool same = true;
      for (int i = 0; i < 300; ++i) {
        // What is stored is what was read: copies in low bits are no others.
        Word word = rng.bits64() >> (64 - word_bits(layout.format)), stored = 0, check = 0;
        encode_block(layout, &word, 1, &stored, &check);
        ReadWord clean, faulty;
        decode_block(layout, &stored, 1, check, &clean);
        stored ^= Word{1} << bit;
        decode_block(layout, &stored, 1, check, &faulty);
        same = same && clean.word == faulty.word && clean.flagged == faulty.flagged;
      }
      EXPECT_EQ(same, std::count(corrected.begin(), corrected.end(), bit) == 1) << name << bit;
    }
  }
}

}  // namespace
}  // namespace sentinel
