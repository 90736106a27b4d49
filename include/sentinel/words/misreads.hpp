#pragma once
#include <array>
#include <optional>
#include <vector>

#include "sentinel/words/layout.hpp"

namespace sentinel {

/// Whether every flip of one stored bit of a block leaves all its words as they were, whatever they
/// are. Not of mset, cep, parity and tmr, which leave some bits bare.
bool corrects_single_flips(const Layout& layout);
/// Bits of a stored word whose flip alone leaves all words as they were, whatever they are;
/// ascending.
std::vector<int> corrected_bits(const Layout& layout);

/// Whether a code leaves some bits bare: mset, cep, parity, tmr.
bool leaves_bits_bare(const Layout& layout);

/// Words that are coded together. All bits of the words may flip.
struct CodedWords {
  int words = 1;       // block_shape(layout).words; in an incomplete block fewer, of zero-space 1
  bool check = false;  // whether bits of the check word that is stored apart may flip too
};
/// A complete block, all of whose bits may flip.
CodedWords whole_block(const Layout& layout);

/// A set of bits, up to 192.
class Flips {
 public:
  Flips(Word low = 0) : words_{low, 0, 0} {}
  bool operator[](int bit) const { return words_[place(bit)] >> (bit % 64) & 1; }
  void set(int bit) { words_[place(bit)] |= Word{1} << (bit % 64); }
  int count() const {
    int ones = 0;
    for (const Word word : words_) ones += __builtin_popcountll(word);
    return ones;
  }
  /// Calls visit(bit) for each, ascending.
  template <class Visit>
  void each(Visit&& visit) const {
    for (std::size_t i = 0; i < words_.size(); ++i)
      for (Word left = words_[i]; left != 0; left &= left - 1)
        visit(static_cast<int>(64 * i) + __builtin_ctzll(left));
  }

 private:
  static std::size_t place(int bit) { return static_cast<std::size_t>(bit / 64); }
  std::array<Word, 3> words_;
};

/// Which flips make coded words be read wrongly, where that depends on the flips alone, and what
/// the words are does not matter. They have parts, each read right or wrong by itself: the copies
/// of a bit, or all bits of a block.
class Misreads {
 public:
  /// Some word is read as another one or flagged. A chunk that cep reads as 0 counts, also where it
  /// was 0 before.
  static Misreads of(const Layout& layout, const CodedWords& words);
  static Misreads of(const Layout& layout) { return of(layout, whole_block(layout)); }
  /// The format's critical bit is read as 1 in a word where it is 0. Of codes that leave bits bare,
  /// and of words without a code; nothing of others, and where the format has no critical bit.
  static std::optional<Misreads> of_critical_bit(const Layout& layout);

  int parts() const { return parts_; }
  /// Stored bits of a part.
  int bits() const { return static_cast<int>(wrong_.size()) - 1; }
  /// The number of a part's bit among the stored ones, which are numbered word by word, copies of a
  /// word side by side, the check word last.
  int place(int part, int bit) const {
    return places_[static_cast<std::size_t>(part * bits() + bit)];
  }
  /// By number of flips in a part, 0 ... bits(): how many patterns of so many are read wrongly.
  const std::vector<double>& wrong() const { return wrong_; }
  bool is_wrong(const Flips& flips) const;
  /// Probabilities that a part, and any part, is read wrongly where each bit flips with probability
  /// `ber`; sums of positive terms by products alone, the same on every machine.
  double of_part(double ber) const;
  double of_word(double ber) const;

 private:
  Misreads(const Layout& layout, const CodedWords& words) : layout_(layout), words_(words) {}
  bool is_decoded_wrongly(const Flips& flips) const;
  void count_decoded();
  void take_right(const std::vector<double>& right);

  Layout layout_;
  CodedWords words_;
  bool critical_ = false;
  int parts_ = 1;
  std::vector<int> places_;  // by part and bit
  std::vector<double> wrong_;
  std::vector<bool> all_wrong_;  // by number of flips: whether all patterns are
};

}  // namespace sentinel
