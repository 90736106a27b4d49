#pragma once
#include <optional>
#include <vector>

#include "sentinel/fault/sampler.hpp"
#include "sentinel/words/misreads.hpp"

namespace sentinel {

/// Trials of binomial flips in coded words by K, the number of words that are read wrongly: a sum
/// of one binomial number for each layout.
class WordStrata {
 public:
  /// Nothing where a code does not tell K (Misreads), or only some bits of the words are selected,
  /// or so many words are read wrongly that their number says little.
  static std::optional<WordStrata> of(const FaultSpace& space, double ber);

  /// P(K = k), k = 0 ... counts().size() - 2, and P(K >= counts().size() - 1) < 0.01.
  const std::vector<double>& counts() const { return counts_; }
  /// A trial with so many words read wrongly, of the last of counts() with at least as many: which
  /// ones by their probabilities, each by flips that make it wrong; all others by flips that do
  /// not. Pure function of its arguments; `space`: the one that it was made of.
  Faults draw(const FaultSpace& space, std::size_t count, const RngKey& key) const;

 private:
  /// Words that are stored alike.
  struct Kind {
    Misreads misreads;
    std::uint64_t words = 0;
    std::vector<double> counts = {};  // by k: P(k of them wrong)/P(none)
  };
  /// A word, by the value that it stores.
  struct Place {
    std::uint32_t tensor;
    std::uint64_t value;
    bool operator<(const Place& o) const {
      return tensor != o.tensor ? tensor < o.tensor : value < o.value;
    }
    bool operator==(const Place& o) const { return tensor == o.tensor && value == o.value; }
  };
  using Parts = std::vector<Word>;  // flips of a word by part
  bool add(const FaultSpace& space);
  std::vector<Place> wrong_words(const FaultSpace& space, std::uint64_t count, Rng& rng) const;
  Place word(const FaultSpace& space, std::size_t kind, std::uint64_t number) const;
  Word any_flips(int bits, Rng& rng) const;
  Word wrong_flips(const Misreads& misreads, Rng& rng) const;
  Word right_flips(const Misreads& misreads, Word flips, Rng& rng) const;
  Parts wrong_parts(const Misreads& misreads, Rng& rng) const;
  Parts parts_of(const Misreads& misreads, bool wrong, Parts parts, Rng& rng) const;

  double ber_ = 0;
  std::vector<Kind> kinds_;
  std::vector<std::size_t> kind_of_;       // by tensor
  std::vector<std::uint64_t> copies_;      // by tensor: stored words of a value
  std::vector<std::uint64_t> first_word_;  // by tensor, in its kind
  std::vector<std::vector<double>> sums_;  // by kind: of it and those after it, as Kind::counts
  std::vector<double> counts_;
};

}  // namespace sentinel
