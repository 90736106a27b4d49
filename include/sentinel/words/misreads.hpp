#pragma once
#include <optional>
#include <vector>

#include "sentinel/words/layout.hpp"

namespace sentinel {

/// Whether every flip of one stored bit of a block leaves all its words as they were, whatever they
/// are. Not of mset, cep, parity and tmr, which leave some bits bare.
bool corrects_single_flips(const Layout& layout);

/// Which flips make a stored word be read wrongly, as another word or flagged, where that depends
/// on the flips alone: of words without a code, of repeat and of bch. Such a word has parts that
/// are read right or wrong each by itself: the copies of a bit, or all bits of a word of bch.
class Misreads {
 public:
  /// Nothing of other codes.
  static std::optional<Misreads> of(const Layout& layout);

  int parts() const { return parts_; }
  /// Stored bits of a part.
  int bits() const { return static_cast<int>(wrong_.size()) - 1; }
  /// By number of flips in a part, 0 ... bits(): how many patterns of so many are read wrongly.
  const std::vector<double>& wrong() const { return wrong_; }
  bool is_wrong(Word flips) const;
  /// Probabilities that a part, and a word, is read wrongly where each bit flips with probability
  /// `ber`; sums of positive terms by products alone, the same on every machine.
  double of_part(double ber) const;
  double of_word(double ber) const;

 private:
  std::optional<Layout> bch_;  // else a majority
  int parts_ = 1;
  std::vector<double> wrong_;
};

}  // namespace sentinel
