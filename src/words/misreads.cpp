#include "sentinel/words/misreads.hpp"

#include <algorithm>
#include <array>

#include "sentinel/core/error.hpp"
#include "words/bch.hpp"

namespace sentinel {
namespace {

using Kind = Code::Kind;

double power(double base, int exponent) {
  double product = 1;
  for (; exponent > 0; --exponent) product *= base;
  return product;
}

/// Subsets by size, 0 ... n.
std::vector<double> binomials(int n) {
  std::vector<double> all = {1};
  for (int k = 1; k <= n; ++k) all.push_back(all.back() * (n - k + 1) / k);
  return all;
}

/// A block of zeros: the codes that are looked at are linear, so it stands for all.
struct ZeroBlock {
  explicit ZeroBlock(const Layout& own) : layout(own), shape(block_shape(own)) {
    const auto count = static_cast<std::size_t>(shape.words);
    read.resize(count);
    stored.resize(count * static_cast<std::size_t>(shape.copies));
    const std::vector<Word> zeros(count);
    encode_block(layout, zeros.data(), shape.words, stored.data(), &check);
  }
  bool is_read_right() {
    decode_block(layout, stored.data(), shape.words, check, read.data());
    return std::all_of(read.begin(), read.end(),
                       [](const ReadWord& word) { return !word.flagged && word.word == 0; });
  }
  bool corrects_flips_of(Word& word, int bits) {
    for (int bit = 0; bit < bits; ++bit) {
      word ^= Word{1} << bit;
      const bool right = is_read_right();
      word ^= Word{1} << bit;
      if (!right) return false;
    }
    return true;
  }

  const Layout& layout;
  BlockShape shape;
  std::vector<Word> stored;
  Word check = 0;
  std::vector<ReadWord> read;
};

}  // namespace

bool corrects_single_flips(const Layout& layout) {
  if (!layout.code || !keeps_words(layout)) return false;
  ZeroBlock block(layout);
  if (!block.corrects_flips_of(block.check, block.shape.check_bits)) return false;
  return std::all_of(block.stored.begin(), block.stored.end(), [&](Word& word) {
    return block.corrects_flips_of(word, block.shape.stored_bits);
  });
}

std::vector<int> corrected_bits(const Layout& layout) {
  if (!layout.code) return {};
  const Code& code = *layout.code;
  std::vector<int> bits;
  if (code.kind == Kind::kMset) bits = {*critical_bit(layout.format)};
  if (code.kind == Kind::kTmr) bits = code.bits;
  const int width = block_shape(layout).stored_bits;
  const bool all = corrects_single_flips(layout);
  // tmr:sign-exponent: the three copies; only bits 22-18 are stored once.
  const bool most = code.kind == Kind::kTmr && code.sign_exponent;
  for (int bit = 0; bit < width; ++bit)
    if (all || (most && (bit < 18 || bit > 22))) bits.push_back(bit);
  std::sort(bits.begin(), bits.end());
  return bits;
}

bool leaves_bits_bare(const Layout& layout) {
  return layout.code && !keeps_words(layout);
}

CodedWords whole_block(const Layout& layout) {
  const BlockShape shape = block_shape(layout);
  return {shape.words, shape.check_bits > 0};
}

namespace {

std::vector<int> numbers(int first, int end) {
  std::vector<int> all;
  for (int i = first; i < end; ++i) all.push_back(i);
  return all;
}

/// Coefficients of (1 + c x)^n.
std::vector<double> power_of_sum(double c, int n) {
  std::vector<double> all = binomials(n);
  for (std::size_t k = 0; k < all.size(); ++k) all[k] *= power(c, static_cast<int>(k));
  return all;
}

/// By number of flips, how many patterns of a word are read right; those flips are all outvoted, or
/// corrected. Nothing where count_decoded tells it, or the majority.
std::vector<double> right_by_flips(const Code& code) {
  switch (code.kind) {
    case Kind::kMset:
      return power_of_sum(1, 1);
    case Kind::kCep:
    case Kind::kParity:
      return {1};
    case Kind::kTmr:  // copies of named bits are read as stored, those of tmr:sign-exponent as 0
      return code.sign_exponent ? power_of_sum(3, 9)
                                : power_of_sum(1, static_cast<int>(code.bits.size()));
    case Kind::kBch:
      return bch_code(code.n, code.k).right_by_weight();
    case Kind::kRepeat:
    case Kind::kSecded:
    case Kind::kSpw:
    case Kind::kZeroSpace:
      return {};
  }
  throw Bug("unknown code");
}

/// The stored bits of words that are coded together.
struct StoredBits {
  std::vector<int> used;   // of their values
  std::vector<int> loose;  // check bits, and those that reading leaves out
};

StoredBits stored_bits(const Layout& layout, const CodedWords& words) {
  const BlockShape shape = block_shape(layout);
  const bool bytes = layout.code->kind == Kind::kZeroSpace;
  StoredBits bits;
  for (int i = 0; i < words.words * shape.stored_bits; ++i) {
    const bool used = bytes ? i % 8 != 6 : is_message_bit(layout, i % shape.stored_bits);
    (used ? bits.used : bits.loose).push_back(i);
  }
  const int data = words.words * shape.stored_bits;
  for (int i = 0; words.check && i < shape.check_bits; ++i) bits.loose.push_back(data + i);
  return bits;
}

/// The bits that decide how cep or parity reads this one, which comes first: an odd number of flips
/// of them is noticed, and the bit then read as 0.
std::vector<int> parity_group(const Layout& layout, int bit) {
  const int width = word_bits(layout.format), size = layout.code->n;
  std::vector<int> group = {bit};
  const auto add = [&](int other) {
    if (other != bit) group.push_back(other);
  };
  if (layout.code->kind == Kind::kParity) {
    for (int other = 0; other < width; ++other) add(other);
    return group;
  }
  const int chunk = (width - 1 - bit) / size, chunks = width / (size + 1);
  for (int i = 1; i <= size; ++i) add(width - size * chunk - i);
  add(chunks - 1 - chunk);
  return group;
}

/// A bit and its copies; only the bit where it has none.
std::vector<int> copies_of(const Layout& layout, int bit) {
  if (!layout.code) return {bit};
  const Code& code = *layout.code;
  if (code.kind == Kind::kMset) return {bit, 1, 0};
  if (code.sign_exponent) return {bit, bit - 14, bit - 23};
  const auto named = std::find(code.bits.begin(), code.bits.end(), bit);
  if (named == code.bits.end()) return {bit};
  const int count = static_cast<int>(code.bits.size());
  const int at = static_cast<int>(named - code.bits.begin());
  return {bit, 2 * count - 1 - at, count - 1 - at};
}

std::vector<double> by_majority(int copies) {
  std::vector<double> wrong = binomials(copies);
  std::fill_n(wrong.begin(), copies / 2 + 1, 0);
  return wrong;
}

/// Patterns with an even number of flips and the first bit among them.
std::vector<double> even_with_first(int bits) {
  const std::vector<double> others = binomials(bits - 1);
  std::vector<double> wrong(static_cast<std::size_t>(bits) + 1);
  for (std::size_t flips = 2; flips < wrong.size(); flips += 2) wrong[flips] = others[flips - 1];
  return wrong;
}

}  // namespace

/// All patterns but so many of each number of flips.
void Misreads::take_right(const std::vector<double>& right) {
  wrong_ = binomials(static_cast<int>(places_.size()));
  all_wrong_.assign(wrong_.size(), true);
  for (std::size_t flips = 0; flips < right.size(); ++flips) {
    wrong_[flips] -= right[flips];
    all_wrong_[flips] = right[flips] == 0;
  }
}

/// Extended Hamming codes. Decoding changes one used bit at most, so that of a pattern that is read
/// right no more than one is wrong before.
void Misreads::count_decoded() {
  const StoredBits bits = stored_bits(layout_, words_);
  places_ = bits.used;
  places_.insert(places_.end(), bits.loose.begin(), bits.loose.end());
  std::sort(places_.begin(), places_.end());
  std::vector<double> right(places_.size() + 1);
  const auto number = [&](int place) {
    return static_cast<int>(std::lower_bound(places_.begin(), places_.end(), place) -
                            places_.begin());
  };
  for (Word subset = 0; subset < Word{1} << bits.loose.size(); ++subset) {
    Flips flips;
    Flips(subset).each([&](int i) { flips.set(number(bits.loose[static_cast<std::size_t>(i)])); });
    const auto count = [&](const Flips& own) {
      if (!is_decoded_wrongly(own)) ++right[static_cast<std::size_t>(own.count())];
    };
    count(flips);
    for (const int place : bits.used) {
      Flips more = flips;
      more.set(number(place));
      count(more);
    }
  }
  take_right(right);
}

Misreads Misreads::of(const Layout& layout, const CodedWords& words) {
  Misreads misreads(layout, words);
  const int width = block_shape(layout).stored_bits;
  if (!layout.code || layout.code->kind == Kind::kRepeat) {
    const int copies = layout.code ? layout.code->n : 1;
    misreads.parts_ = width;
    for (int bit = 0; bit < width; ++bit)
      for (int copy = 0; copy < copies; ++copy) misreads.places_.push_back(copy * width + bit);
    misreads.wrong_ = by_majority(copies);
    misreads.all_wrong_.assign(misreads.wrong_.size(), true);
    return misreads;
  }
  const std::vector<double> right = right_by_flips(*layout.code);
  if (right.empty()) {
    misreads.count_decoded();
    return misreads;
  }
  misreads.places_ = numbers(0, width);
  misreads.take_right(right);
  return misreads;
}

std::optional<Misreads> Misreads::of_critical_bit(const Layout& layout) {
  const auto bit = critical_bit(layout.format);
  if (!bit || (layout.code && !leaves_bits_bare(layout))) return std::nullopt;
  Misreads misreads(layout, {});
  misreads.critical_ = true;
  const bool parity =
      layout.code && (layout.code->kind == Kind::kCep || layout.code->kind == Kind::kParity);
  misreads.places_ = parity ? parity_group(layout, *bit) : copies_of(layout, *bit);
  const int bits = static_cast<int>(misreads.places_.size());
  misreads.wrong_ = parity ? even_with_first(bits) : by_majority(bits);
  misreads.all_wrong_.assign(misreads.wrong_.size(), !parity);
  return misreads;
}

bool Misreads::is_wrong(const Flips& flips) const {
  const auto count = static_cast<std::size_t>(flips.count());
  if (wrong_[count] == 0) return false;
  if (all_wrong_[count]) return true;
  return critical_ ? flips[0] : is_decoded_wrongly(flips);
}

/// For words that are all 0, as they do not matter.
bool Misreads::is_decoded_wrongly(const Flips& flips) const {
  constexpr std::size_t kMostWords = 64;
  const int width = block_shape(layout_).stored_bits, data = words_.words * width;
  std::array<Word, kMostWords> stored{};
  std::array<ReadWord, kMostWords> read;
  Word check = 0;
  flips.each([&](int bit) {
    const int place = places_[static_cast<std::size_t>(bit)];
    Word& word = place < data ? stored[static_cast<std::size_t>(place / width)] : check;
    word ^= Word{1} << (place < data ? place % width : place - data);
  });
  decode_block(layout_, stored.data(), words_.words, check, read.data());
  return std::any_of(read.begin(), read.begin() + words_.words,
                     [](const ReadWord& word) { return word.flagged || word.word != 0; });
}

double Misreads::of_part(double ber) const {
  double sum = 0;
  for (int flips = 0; flips <= bits(); ++flips)
    sum += wrong_[static_cast<std::size_t>(flips)] * power(ber, flips) *
           power(1 - ber, bits() - flips);
  return sum;
}

double Misreads::of_word(double ber) const {
  const double part = of_part(ber);
  double sum = 0, right = 1;  // all parts before are read right
  for (int i = 0; i < parts_; ++i, right *= 1 - part) sum += right * part;
  return sum;
}

}  // namespace sentinel
