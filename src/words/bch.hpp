#pragma once
#include <array>
#include <cstdint>
#include <vector>

#include "sentinel/words/format.hpp"

namespace sentinel {

/// An extended BCH code: `n` stored bits of `k`.
struct BchParameters {
  int n, k;
  std::uint32_t generator;  // bit j: coefficient of x^j
};

inline constexpr std::array<BchParameters, 9> kBchCodes = {{{8, 4, 013},
                                                            {16, 5, 02467},
                                                            {16, 7, 0721},
                                                            {16, 11, 023},
                                                            {32, 6, 0313365047},
                                                            {32, 11, 05423325},
                                                            {32, 16, 0107657},
                                                            {32, 21, 03551},
                                                            {32, 26, 045}}};

/// Systematic: bits 0 ... n-k-2 are the remainder, then comes the word, then the parity of all
/// (Hocquenghem 1959; Bose and Ray-Chaudhuri 1960).
class Bch {
 public:
  explicit Bch(const BchParameters& parameters);

  Word encode(Word word) const { return codeword(static_cast<std::uint32_t>(word)); }
  /// The word of the only nearest codeword; flagged where several are as near.
  ReadWord decode(Word stored) const;
  /// How many patterns of 0, 1 ... flips are read right. Those are the only lightest of their
  /// cosets, whatever the word.
  std::vector<double> right_by_weight() const;

 private:
  std::uint32_t codeword(std::uint32_t word) const;
  std::uint32_t syndrome(std::uint32_t stored) const;
  std::uint32_t message(std::uint32_t stored) const;
  void tabulate_codewords(std::uint32_t generator);
  void tabulate_leaders();
  void tabulate_distances();
  ReadWord decode_by_distances(std::uint32_t stored) const;

  int n_, k_;
  std::array<std::array<std::uint32_t, 256>, 4> codewords_{};  // of each byte of the word
  /// By syndrome: the only lightest error pattern that has it, or kTie. Where there are too many
  /// syndromes: none.
  std::vector<std::uint32_t> leaders_;
  std::vector<std::uint8_t> distances_;  // [byte of the stored word, its value, codeword]
};

/// One of kBchCodes; its tables are made on first use.
const Bch& bch_code(int n, int k);

}  // namespace sentinel
