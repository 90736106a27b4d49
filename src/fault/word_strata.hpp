#pragma once
#include <optional>
#include <vector>

#include "fault/word_units.hpp"
#include "sentinel/fault/sampler.hpp"

namespace sentinel {

/// Trials of binomial flips in coded words by K, the number of units (words, or blocks of them)
/// that are read wrongly: a sum of one binomial number for each kind of unit.
class WordStrata {
 public:
  /// Nothing where only some bits of the words are selected, or so many units are read wrongly that
  /// their number says little. Where that is due to bits that no code protects, and where a code
  /// leaves bits bare, K counts words with such bits only if their critical bit is read as 1 where
  /// it is 0; nothing where that hardly ever happens.
  static std::optional<WordStrata> of(const Graph& graph, const FaultSpace& space, double ber);

  /// Trials with so many units read wrongly, their share of all, and their mean number.
  struct Class {
    std::size_t first, last;
    double share, mean;
  };
  /// 0, 1, 2, 3-4, 5-8 and so on, the last of all that are more; where one has less than 0.01 of
  /// the trials it is joined with the next.
  const std::vector<Class>& classes() const { return classes_; }
  /// Whether all values are read right where K = 0.
  bool counts_all() const { return counts_all_; }
  /// Whether some units have several words.
  bool in_blocks() const { return units_.in_blocks(); }
  /// A trial of a class: which units are read wrongly by their probabilities, each by flips that
  /// make it wrong; all others have flips that do not. Pure function of its arguments; `space`: the
  /// one that it was made of.
  Faults draw(const FaultSpace& space, const Class& own, const RngKey& key) const;

 private:
  using Parts = std::vector<Flips>;  // flips of a unit by part
  WordStrata(WordUnits units, bool counts_all, double ber)
      : units_(std::move(units)), counts_all_(counts_all), ber_(ber) {}
  static std::optional<WordStrata> counted(std::optional<WordUnits> units, bool counts_all,
                                           double ber);
  bool count();
  std::vector<std::uint64_t> wrong_units(std::uint64_t count, Rng& rng) const;
  Flips any_flips(int bits, Rng& rng) const;
  Flips wrong_flips(const Misreads& misreads, Rng& rng) const;
  Flips right_flips(const Misreads& misreads, Flips flips, Rng& rng) const;
  Parts wrong_parts(const Misreads& misreads, Rng& rng) const;
  Parts parts_of(const Misreads& misreads, bool wrong, Parts parts, Rng& rng) const;

  WordUnits units_;
  bool counts_all_ = true;
  double ber_ = 0;
  std::vector<std::vector<double>> of_kind_;  // by kind and k: P(k of them wrong)/P(none)
  std::vector<std::vector<double>> sums_;     // by kind: of it and those after it, likewise
  std::vector<Class> classes_;
};

}  // namespace sentinel
