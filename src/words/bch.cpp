#include "words/bch.hpp"

#include <algorithm>
#include <memory>
#include <mutex>

#include "sentinel/core/error.hpp"

namespace sentinel {
namespace {

constexpr std::uint32_t kTie = ~0u;  // never a leader: all ones is a codeword
constexpr int kLargestTable = 21;    // bits of a syndrome: 8 MiB
constexpr std::size_t kFew = 64;     // codewords that are looked through

/// The next larger number with as many ones.
std::uint64_t next_pattern(std::uint64_t pattern) {
  const std::uint64_t lowest = pattern & (~pattern + 1), carried = pattern + lowest;
  return carried | (((pattern ^ carried) / lowest) >> 2);
}

}  // namespace

Bch::Bch(const BchParameters& parameters) : n_(parameters.n), k_(parameters.k) {
  tabulate_codewords(parameters.generator);
  if (n_ - k_ <= kLargestTable)
    tabulate_leaders();
  else
    tabulate_distances();
}

void Bch::tabulate_codewords(std::uint32_t generator) {
  const int checks = n_ - 1 - k_;
  for (int bit = 0; bit < k_; ++bit) {
    std::uint32_t remainder = 1;  // of x^(checks + bit)
    for (int step = 0; step < checks + bit; ++step) {
      remainder <<= 1;
      if (remainder >> checks & 1) remainder ^= generator;
    }
    const std::uint32_t code = 1u << (checks + bit) | remainder;
    const std::uint32_t parity = __builtin_parity(code) ? 1u << (n_ - 1) : 0;
    auto& table = codewords_[static_cast<std::size_t>(bit / 8)];
    for (std::size_t value = 0; value < 256; ++value)
      if (value >> (bit % 8) & 1) table[value] ^= code | parity;
  }
}

/// Goes through error patterns by weight until every syndrome has one.
void Bch::tabulate_leaders() {
  const std::size_t syndromes = std::size_t{1} << (n_ - k_);
  constexpr std::uint8_t kNone = 255;
  std::vector<std::uint8_t> weights(syndromes, kNone);
  leaders_.assign(syndromes, 0);
  weights[0] = 0;
  std::size_t found = 1;
  for (std::uint8_t weight = 1; found < syndromes; ++weight) {
    const std::uint64_t end = std::uint64_t{1} << n_;
    for (std::uint64_t e = (std::uint64_t{1} << weight) - 1; e < end; e = next_pattern(e)) {
      const std::size_t s = syndrome(static_cast<std::uint32_t>(e));
      if (weights[s] < weight) continue;
      leaders_[s] = weights[s] == weight ? kTie : static_cast<std::uint32_t>(e);
      if (weights[s] == kNone) ++found;
      weights[s] = weight;
    }
  }
}

void Bch::tabulate_distances() {
  distances_.resize(std::size_t{4} * 256 * kFew);
  for (std::size_t i = 0; i < distances_.size(); ++i) {
    const auto word = static_cast<std::uint32_t>(i % kFew);
    const std::size_t value = i / kFew % 256, byte = i / kFew / 256;
    const std::uint32_t code = codeword(word) >> (8 * byte) & 255;
    distances_[i] =
        static_cast<std::uint8_t>(__builtin_popcount(code ^ static_cast<std::uint32_t>(value)));
  }
}

std::uint32_t Bch::codeword(std::uint32_t word) const {
  return codewords_[0][word & 255] ^ codewords_[1][word >> 8 & 255] ^
         codewords_[2][word >> 16 & 255] ^ codewords_[3][word >> 24];
}

std::uint32_t Bch::message(std::uint32_t stored) const {
  return stored >> (n_ - 1 - k_) & ((1u << k_) - 1);
}

/// The check bits, the parity highest, that differ from those of the message as received.
std::uint32_t Bch::syndrome(std::uint32_t stored) const {
  const std::uint32_t difference = stored ^ codeword(message(stored));
  const int checks = n_ - 1 - k_;
  return (difference & ((1u << checks) - 1)) | difference >> (n_ - 1) << checks;
}

ReadWord Bch::decode(Word received) const {
  const auto stored = static_cast<std::uint32_t>(received);
  if (leaders_.empty()) return decode_by_distances(stored);
  const std::uint32_t leader = leaders_[syndrome(stored)];
  if (leader == kTie) return {0, true};
  return {message(stored ^ leader), false};
}

ReadWord Bch::decode_by_distances(std::uint32_t stored) const {
  std::array<std::uint8_t, kFew> distance{};
  for (std::size_t byte = 0; byte < 4; ++byte) {
    const std::uint8_t* row = &distances_[(byte * 256 + (stored >> (8 * byte) & 255)) * kFew];
    for (std::size_t word = 0; word < kFew; ++word)
      distance[word] = static_cast<std::uint8_t>(distance[word] + row[word]);
  }
  std::uint8_t least = distance[0];
  for (const std::uint8_t d : distance) least = std::min(least, d);
  ReadWord read;
  int nearest = 0;
  for (std::size_t word = 0; word < kFew; ++word)
    if (distance[word] == least) {
      read.word = word;
      ++nearest;
    }
  return nearest == 1 ? read : ReadWord{0, true};
}

std::vector<double> Bch::right_by_weight() const {
  // The (32,6) code is the Reed-Muller code of first order: counted from the Walsh spectra of all
  // functions of five variables.
  if (leaders_.empty())
    return {1, 32, 496, 4960, 35960, 201376, 906192, 3365856, 9721600, 15554560, 2666496};
  std::vector<double> right(static_cast<std::size_t>(n_) + 1);
  for (const std::uint32_t leader : leaders_)
    if (leader != kTie) ++right[static_cast<std::size_t>(__builtin_popcount(leader))];
  return right;
}

const Bch& bch_code(int n, int k) {
  static std::array<std::once_flag, kBchCodes.size()> made;
  static std::array<std::unique_ptr<const Bch>, kBchCodes.size()> codes;
  for (std::size_t i = 0; i < kBchCodes.size(); ++i) {
    if (kBchCodes[i].n != n || kBchCodes[i].k != k) continue;
    std::call_once(made[i], [i] { codes[i] = std::make_unique<const Bch>(kBchCodes[i]); });
    return *codes[i];
  }
  throw Bug("there is no code bch:" + std::to_string(n) + "," + std::to_string(k));
}

}  // namespace sentinel
