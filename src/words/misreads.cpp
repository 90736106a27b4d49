#include "sentinel/words/misreads.hpp"

#include <algorithm>

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

std::optional<Misreads> Misreads::of(const Layout& layout) {
  Misreads misreads;
  if (layout.code && layout.code->kind == Kind::kBch) {
    misreads.bch_ = layout;
    misreads.wrong_ = binomials(layout.code->n);
    const std::vector<double> right = bch_code(layout.code->n, layout.code->k).right_by_weight();
    for (std::size_t flips = 0; flips < right.size(); ++flips)
      misreads.wrong_[flips] -= right[flips];
    return misreads;
  }
  if (layout.code && layout.code->kind != Kind::kRepeat) return std::nullopt;
  const int copies = layout.code ? layout.code->n : 1;
  misreads.parts_ = word_bits(layout.format);
  misreads.wrong_ = binomials(copies);
  std::fill_n(misreads.wrong_.begin(), copies / 2 + 1, 0);
  return misreads;
}

bool Misreads::is_wrong(Word flips) const {
  const int count = __builtin_popcountll(flips);
  if (wrong_[static_cast<std::size_t>(count)] == 0) return false;
  if (!bch_) return true;
  ReadWord read;
  decode_block(*bch_, &flips, 1, 0, &read);
  return read.flagged || read.word != 0;
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
