#pragma once
#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "sentinel/words/layout.hpp"

/// Codes once more, bit by bit and slowly, written from their definitions: what the fast ones are
/// held against.
namespace sentinel::test {

using Bits = std::vector<int>;  // bit 0 first

/// A block as it is stored.
struct Memory {
  std::vector<Bits> words;  // [copies][count]
  Bits check;
};

inline Bits to_bits(Word word, int width) {
  Bits bits;
  for (int i = 0; i < width; ++i) bits.push_back(static_cast<int>(word >> i & 1));
  return bits;
}

inline Word to_word(const Bits& bits) {
  Word word = 0;
  for (std::size_t i = 0; i < bits.size(); ++i) word |= static_cast<Word>(bits[i]) << i;
  return word;
}

inline int sum(const Bits& bits) {
  return static_cast<int>(std::count(bits.begin(), bits.end(), 1));
}
inline int& at(Bits& bits, int i) {
  return bits.at(static_cast<std::size_t>(i));
}
inline int at(const Bits& bits, int i) {
  return bits.at(static_cast<std::size_t>(i));
}
inline bool power_of_two(int n) {
  return n == 1 || (n % 2 == 0 && n > 0 && power_of_two(n / 2));
}

// ---- extended Hamming codes: bits by their position -------------------------------------------

/// Positions of data bits: no powers of two.
inline std::vector<int> data_positions(int count) {
  std::vector<int> positions;
  for (int p = 3; static_cast<int>(positions.size()) < count; ++p)
    if (!power_of_two(p)) positions.push_back(p);
  return positions;
}

inline int hamming_length(int data) {
  int checks = 1;
  for (int room = 0; room < data;) {
    ++checks;
    room = (1 << checks) - 1 - checks;
  }
  return 1 + checks + data;
}

/// Which of the positions 1, 2, 4, ... have ones of odd number among those they check, as a sum.
inline int hamming_syndrome(const Bits& code) {
  int syndrome = 0;
  for (int check = 1; check < static_cast<int>(code.size()); check *= 2) {
    int ones = 0;
    for (int p = 1; p < static_cast<int>(code.size()); ++p)
      if (p & check) ones += at(code, p);
    if (ones % 2) syndrome += check;
  }
  return syndrome;
}

/// Data and check bits at their positions.
inline Bits hamming_encode(const Bits& data) {
  Bits code(static_cast<std::size_t>(hamming_length(static_cast<int>(data.size()))));
  const auto positions = data_positions(static_cast<int>(data.size()));
  for (std::size_t d = 0; d < data.size(); ++d) at(code, positions[d]) = data[d];
  const int syndrome = hamming_syndrome(code);
  for (int check = 1; check < static_cast<int>(code.size()); check *= 2)
    at(code, check) = (syndrome & check) != 0;
  code[0] = sum(code) % 2;
  return code;
}

/// The data, and whether it could not be corrected. Data bits from `stored` on are not stored, so
/// that nothing there can be wrong.
inline bool hamming_decode(Bits code, int data, int stored, Bits& out) {
  const auto positions = data_positions(data);
  const int syndrome = hamming_syndrome(code);
  bool failed = false;
  if (sum(code) % 2 == 0) {
    failed = syndrome != 0;
  } else {
    const auto place = std::find(positions.begin(), positions.end(), syndrome);
    const bool is_data = place != positions.end() && place - positions.begin() < stored;
    if (is_data || syndrome == 0 || power_of_two(syndrome))
      at(code, syndrome) ^= 1;
    else
      failed = true;
  }
  out.clear();
  for (const int p : positions) out.push_back(at(code, p));
  return failed;
}

// ---- extended BCH codes: polynomials over GF(2), bit i the coefficient of x^i ------------------

inline Bits polynomial_of_octal(const std::string& octal) {
  Bits bits;
  for (auto digit = octal.rbegin(); digit != octal.rend(); ++digit)
    for (int i = 0; i < 3; ++i) bits.push_back((*digit - '0') >> i & 1);
  while (bits.back() == 0) bits.pop_back();
  return bits;
}

inline Bits remainder(Bits dividend, const Bits& divisor) {
  for (std::size_t top = dividend.size(); top-- >= divisor.size();)
    if (dividend[top])
      for (std::size_t i = 0; i < divisor.size(); ++i)
        dividend[top + 1 - divisor.size() + i] ^= divisor[i];
  dividend.resize(divisor.size() - 1);
  return dividend;
}

class BchReference {
 public:
  BchReference(int n, int k, const std::string& generator)
      : n_(n), k_(k), generator_(polynomial_of_octal(generator)) {
    if (k <= 16)
      for (Word word = 0; word < Word{1} << k; ++word)
        codewords_.push_back(static_cast<std::uint32_t>(to_word(encode(word))));
    for (int i = 0; i < n; ++i) syndromes_.push_back(syndrome(Word{1} << i));
  }

  Bits encode(Word word) const {
    Bits code(static_cast<std::size_t>(n_ - 1 - k_));
    for (const int bit : to_bits(word, k_)) code.push_back(bit);
    const Bits rest = remainder(code, generator_);
    std::copy(rest.begin(), rest.end(), code.begin());
    code.push_back(sum(code) % 2);
    return code;
  }

  /// By all codewords where there are few, else by all error patterns of growing weight.
  ReadWord decode(Word stored) const {
    return codewords_.empty() ? by_patterns(stored) : by_codewords(stored);
  }

 private:
  /// Zero for codewords only.
  Word syndrome(Word stored) const {
    Bits code = to_bits(stored, n_);
    const int parity = sum(code) % 2;
    code.pop_back();
    Bits rest = remainder(code, generator_);
    rest.push_back(parity);
    return to_word(rest);
  }

  ReadWord by_codewords(Word stored) const {
    int least = n_ + 1, many = 0;
    Word nearest = 0;
    for (std::size_t word = 0; word < codewords_.size(); ++word) {
      const int distance =
          __builtin_popcount(codewords_[word] ^ static_cast<std::uint32_t>(stored));
      if (distance < least) {
        least = distance;
        nearest = word;
        many = 0;
      }
      many += distance == least;
    }
    return many == 1 ? ReadWord{nearest, false} : ReadWord{0, true};
  }

  ReadWord by_patterns(Word stored) const {
    const Word wanted = syndrome(stored);
    for (int weight = 0;; ++weight) {
      std::vector<Word> found;
      collect(weight, 0, wanted, 0, found);
      if (found.size() > 1) return {0, true};
      if (found.size() == 1)
        return {(stored ^ found[0]) >> (n_ - 1 - k_) & ((Word{1} << k_) - 1), false};
    }
  }

  /// Patterns of this many flips from bit `first` on whose syndrome is the wanted one.
  void collect(int weight, int first, Word wanted, Word pattern, std::vector<Word>& found) const {
    if (weight == 0) {
      if (wanted == 0) found.push_back(pattern);
      return;
    }
    for (int i = first; i < n_; ++i)
      collect(weight - 1, i + 1, wanted ^ syndromes_[static_cast<std::size_t>(i)],
              pattern | Word{1} << i, found);
  }

  int n_, k_;
  Bits generator_;
  std::vector<std::uint32_t> codewords_;
  std::vector<Word> syndromes_;  // of single bits
};

inline const BchReference& bch_reference(int n, int k) {
  static const std::map<std::pair<int, int>, std::string> generators = {
      {{8, 4}, "13"},       {{16, 11}, "23"},      {{16, 7}, "721"},
      {{16, 5}, "2467"},    {{32, 26}, "45"},      {{32, 21}, "3551"},
      {{32, 16}, "107657"}, {{32, 11}, "5423325"}, {{32, 6}, "313365047"}};
  static std::map<std::pair<int, int>, BchReference> made;
  const std::pair<int, int> name = {n, k};
  auto code = made.find(name);
  if (code == made.end()) code = made.emplace(name, BchReference(n, k, generators.at(name))).first;
  return code->second;
}

// ---- codes within a word -----------------------------------------------------------------------

/// First and last bit of each chunk of cep, and the bit of its parity.
struct Chunk {
  int high, low, parity;
};
inline std::vector<Chunk> cep_chunks_of(int width, int size) {
  if (width == 32 && size == 3)
    return {{31, 29, 7}, {28, 26, 6}, {25, 23, 5}, {22, 20, 4},
            {19, 17, 3}, {16, 14, 2}, {13, 11, 1}, {10, 8, 0}};
  if (width == 32 && size == 7) return {{31, 25, 3}, {24, 18, 2}, {17, 11, 1}, {10, 4, 0}};
  if (width == 32) return {{31, 17, 1}, {16, 2, 0}};
  if (size == 3) return {{15, 13, 3}, {12, 10, 2}, {9, 7, 1}, {6, 4, 0}};
  if (size == 7) return {{15, 9, 1}, {8, 2, 0}};
  return {{15, 1, 0}};
}

inline int ones(const Bits& bits, int high, int low) {
  int count = 0;
  for (int i = low; i <= high; ++i) count += at(bits, i);
  return count;
}

/// Bit, second copy, third copy.
struct Copy {
  int bit, second, third;
};
inline std::vector<Copy> copies_of(const Layout& layout) {
  const int width = word_bits(layout.format);
  std::vector<Copy> copies;
  if (layout.code->kind == Code::Kind::kMset) return {{width - 2, 1, 0}};
  if (layout.code->sign_exponent) {
    for (int i = 0; i < 9; ++i) copies.push_back({23 + i, 9 + i, i});
    return copies;
  }
  const int m = static_cast<int>(layout.code->bits.size());
  for (int j = 0; j < m; ++j)
    copies.push_back({layout.code->bits[static_cast<std::size_t>(j)], 2 * m - 1 - j, m - 1 - j});
  return copies;
}

/// fp32 with five bits of mantissa, by the two neighbours' distance; of NaN the first bits.
inline Bits rounded_to_five(Word word) {
  const Word below = word >> 18 << 18, above = below + (Word{1} << 18);
  Word result = word - below < above - word ? below : above;
  if (word - below == above - word) result = (below >> 18) % 2 ? above : below;
  if ((word & 0x7FFFFFFF) > 0x7F800000) result = (below & 0x7FFFFF) == 0 ? below | 0x400000 : below;
  return to_bits(result, 32);
}

inline Bits encode_in_place(const Layout& layout, Word word) {
  const int width = word_bits(layout.format);
  Bits bits = to_bits(word, width);
  switch (layout.code->kind) {
    case Code::Kind::kCep:
      for (const Chunk& c : cep_chunks_of(width, layout.code->n))
        at(bits, c.parity) = ones(bits, c.high, c.low) % 2;
      break;
    case Code::Kind::kParity:
      bits[0] = ones(bits, width - 1, 1) % 2;
      break;
    default:
      if (layout.code->sign_exponent) bits = rounded_to_five(word);
      for (const Copy& c : copies_of(layout))
        at(bits, c.second) = at(bits, c.third) = at(bits, c.bit);
  }
  return bits;
}

inline ReadWord decode_in_place(const Layout& layout, Bits bits) {
  switch (layout.code->kind) {
    case Code::Kind::kCep: {
      const auto chunks = cep_chunks_of(static_cast<int>(bits.size()), layout.code->n);
      for (const Chunk& c : chunks)
        if ((ones(bits, c.high, c.low) + at(bits, c.parity)) % 2)
          for (int i = c.low; i <= c.high; ++i) at(bits, i) = 0;
      for (const Chunk& c : chunks) at(bits, c.parity) = 0;
      break;
    }
    case Code::Kind::kParity:
      if (sum(bits) % 2) return {0, true};
      break;
    default:
      for (const Copy& c : copies_of(layout))
        at(bits, c.bit) = at(bits, c.bit) + at(bits, c.second) + at(bits, c.third) >= 2;
      if (layout.code->sign_exponent) std::fill(bits.begin(), bits.begin() + 18, 0);
  }
  return {to_word(bits), false};
}

// ---- blocks ------------------------------------------------------------------------------------

/// Bytes of zero-space without the bits 6 of all but the last.
inline Bits zero_space_data(const std::vector<Bits>& bytes) {
  Bits data;
  for (int i = 0; i < 8; ++i)
    for (int j = 0; j < 8; ++j)
      if (j != 6 || i == 7) data.push_back(at(bytes[static_cast<std::size_t>(i)], j));
  return data;
}

inline Memory encode_zero_space(const std::vector<Word>& words) {
  Memory memory;
  for (const Word word : words) {
    memory.words.push_back(to_bits(word, 7));
    memory.words.back().push_back(static_cast<int>(word >> 6 & 1));
  }
  if (words.size() < 8) return memory;
  const Bits code = hamming_encode(zero_space_data(memory.words));
  at(memory.words[0], 6) = code[0];
  for (std::size_t j = 1; j < 7; ++j) at(memory.words[j], 6) = at(code, 1 << (j - 1));
  return memory;
}

inline std::vector<ReadWord> decode_zero_space(const Memory& memory) {
  std::vector<Bits> bytes = memory.words;
  if (bytes.size() == 8) {
    Bits data = zero_space_data(bytes), code(64);
    const auto positions = data_positions(57);
    for (std::size_t d = 0; d < 57; ++d) at(code, positions[d]) = data[d];
    code[0] = at(bytes[0], 6);
    for (std::size_t j = 1; j < 7; ++j) at(code, 1 << (j - 1)) = at(bytes[j], 6);
    if (hamming_decode(code, 57, 57, data)) return std::vector<ReadWord>(8, ReadWord{0, true});
    std::size_t d = 0;
    for (std::size_t i = 0; i < 8; ++i)
      for (int j = 0; j < 8; ++j)
        if (j != 6 || i == 7) at(bytes[i], j) = data[d++];
  }
  std::vector<ReadWord> words;
  for (Bits& byte : bytes) {
    at(byte, 6) = at(byte, 7);
    byte.pop_back();
    words.push_back({to_word(byte), false});
  }
  return words;
}

inline Bits joined(const std::vector<Bits>& words) {
  Bits all;
  for (const Bits& word : words) all.insert(all.end(), word.begin(), word.end());
  return all;
}

inline Memory encode_secded(const Layout& layout, const std::vector<Word>& words) {
  Memory memory;
  for (const Word word : words) memory.words.push_back(to_bits(word, word_bits(layout.format)));
  Bits data = joined(memory.words);
  data.resize(static_cast<std::size_t>(layout.code->n));
  const Bits code = hamming_encode(data);
  memory.check = {code[0]};
  for (int p = 1; p < static_cast<int>(code.size()); p *= 2) memory.check.push_back(at(code, p));
  return memory;
}

inline std::vector<ReadWord> decode_secded(const Layout& layout, const Memory& memory) {
  const int n = layout.code->n;
  Bits data = joined(memory.words);
  const int stored = static_cast<int>(data.size());
  data.resize(static_cast<std::size_t>(n));
  Bits code(static_cast<std::size_t>(hamming_length(n)));
  const auto positions = data_positions(n);
  for (std::size_t d = 0; d < data.size(); ++d) at(code, positions[d]) = data[d];
  code[0] = memory.check[0];
  for (std::size_t j = 1; j < memory.check.size(); ++j) at(code, 1 << (j - 1)) = memory.check[j];
  const bool failed = hamming_decode(code, n, stored, data);
  std::vector<ReadWord> words(memory.words.size(), ReadWord{0, true});
  if (failed && layout.code->zero) return words;
  const std::size_t width = memory.words[0].size();
  for (std::size_t i = 0; i < words.size(); ++i) {
    const auto first = data.begin() + static_cast<std::ptrdiff_t>(i * width);
    words[i] = {to_word(Bits(first, first + static_cast<std::ptrdiff_t>(width))), false};
  }
  return words;
}

inline ReadWord decode_majority(const std::vector<Bits>& copies) {
  Bits bits;
  for (int i = 0; i < static_cast<int>(copies[0].size()); ++i) {
    std::size_t votes = 0;
    for (const Bits& copy : copies) votes += static_cast<std::size_t>(at(copy, i));
    bits.push_back(2 * votes > copies.size());
  }
  return {to_word(bits), false};
}

inline Memory reference_encode(const Layout& layout, const std::vector<Word>& words) {
  const int width = word_bits(layout.format);
  const Code& code = *layout.code;
  switch (code.kind) {
    case Code::Kind::kZeroSpace:
      return encode_zero_space(words);
    case Code::Kind::kSecded:
      return encode_secded(layout, words);
    case Code::Kind::kSpw:
      return {{hamming_encode(to_bits(words[0], width))}, {}};
    case Code::Kind::kBch:
      return {{bch_reference(code.n, code.k).encode(words[0])}, {}};
    case Code::Kind::kRepeat:
      return {std::vector<Bits>(static_cast<std::size_t>(code.n), to_bits(words[0], width)), {}};
    default:
      return {{encode_in_place(layout, words[0])}, {}};
  }
}

inline std::vector<ReadWord> reference_decode(const Layout& layout, const Memory& memory) {
  const int width = word_bits(layout.format);
  const Code& code = *layout.code;
  switch (code.kind) {
    case Code::Kind::kZeroSpace:
      return decode_zero_space(memory);
    case Code::Kind::kSecded:
      return decode_secded(layout, memory);
    case Code::Kind::kSpw: {
      Bits data;
      const bool failed = hamming_decode(memory.words[0], width, width, data);
      return {failed ? ReadWord{0, true} : ReadWord{to_word(data), false}};
    }
    case Code::Kind::kBch:
      return {bch_reference(code.n, code.k).decode(to_word(memory.words[0]))};
    case Code::Kind::kRepeat:
      return {decode_majority(memory.words)};
    default:
      return {decode_in_place(layout, memory.words[0])};
  }
}

}  // namespace sentinel::test
