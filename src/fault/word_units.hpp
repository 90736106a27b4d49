#pragma once
#include <optional>
#include <vector>

#include "sentinel/fault/fault_space.hpp"
#include "sentinel/words/misreads.hpp"

namespace sentinel {

/// The words of a space in units: words that are coded together, with their check word where it may
/// be hit too. Units are numbered by tensor and element.
class WordUnits {
 public:
  /// Units that are stored alike.
  struct Kind {
    Misreads misreads;
    std::uint64_t units = 0;  // that may be read wrongly
    std::uint64_t all = 0;
  };
  /// A stored bit as its unit's Misreads have it; part -1: its flips make nothing wrong.
  struct PartBit {
    int part = -1, bit = 0;
  };

  /// Every word. Nothing where only some bits, or parts of blocks, are selected.
  static std::optional<WordUnits> all(const FaultSpace& space);
  /// Words with bits that no code protects count by their critical bit alone, where it is 0; those
  /// of formats without such a bit are in no unit.
  static std::optional<WordUnits> critical(const Graph& graph, const FaultSpace& space);

  const std::vector<Kind>& kinds() const { return kinds_; }
  /// Whether some words have a code that leaves bits bare.
  bool leave_bits_bare() const { return bare_; }
  /// Whether some units have several words.
  bool in_blocks() const;

  /// The unit with this number among all of its kind.
  std::uint64_t unit(std::size_t kind, std::uint64_t number) const;
  bool may_be_wrong(std::uint64_t unit) const;
  /// Nothing where the site is in no unit.
  std::optional<std::uint64_t> unit_of(const FaultSite& site) const;
  std::size_t kind_of(std::uint64_t unit) const { return range_of(unit).kind; }
  PartBit part_bit(std::uint64_t unit, const FaultSite& site) const;
  FaultSite site(std::uint64_t unit, int part, int bit) const;

 private:
  /// Units side by side in one tensor.
  struct Range {
    std::size_t kind = 0;
    std::uint32_t data = 0;          // tensor of the space
    std::int64_t check = -1;         // that of its check words; -1: they are not hit
    std::uint64_t element = 0;       // first stored word
    std::uint64_t check_word = 0;    // first of them
    std::uint64_t stored_words = 1;  // of a unit
    int word_bits = 1;
    std::uint64_t units = 0;
    std::uint64_t first = 0, first_of_kind = 0;  // numbers of the first unit
    std::vector<bool> may_be_wrong = {};         // by unit; empty: all
  };

  bool add_all(const FaultSpace& space, const Graph* graph);
  bool add_blocks(const FaultSpace& space, std::uint32_t number);
  void add_words(const FaultTensor& tensor, std::uint32_t number, std::size_t kind);
  void mark_zeros(const Graph& graph, const FaultSpace& space);
  std::size_t kind_of(const Layout& layout, const CodedWords& words, bool critical);
  void add(Range range);
  const Range& range_of(std::uint64_t unit) const;

  struct Key {
    Layout layout;
    int words;
  };
  std::vector<Kind> kinds_;
  std::vector<Key> keys_;                        // by kind
  std::vector<std::vector<PartBit>> part_bits_;  // by kind and stored bit
  std::vector<Range> ranges_;
  std::vector<std::vector<std::size_t>> ranges_of_;  // by tensor of the space
  bool bare_ = false;
};

}  // namespace sentinel
