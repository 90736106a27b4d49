#pragma once
#include <cstdint>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

/// Outcomes of all faults of a tiny CNN (made by make_toy_outcomes.cpp), so that the truth behind
/// an estimate is an exact sum. The file: the line "toy outcomes IMAGES FLIPS\n", then bytes: FLIPS
/// times {bit, tensor, failing images}; kSubsets times correct images; the same for the protected
/// network.
namespace sentinel::test {

constexpr std::uint32_t kSubsetBits = 16;  // bits of which every subset was tried
constexpr std::uint32_t kCritical = 6;     // the first of them: bit 30 of a word where it is 0
constexpr std::uint32_t kSubsets = 1u << kSubsetBits;

struct FlipOutcome {
  std::uint8_t bit, tensor;
  std::uint8_t failing;  // images with SDC-critical or DUE
};

struct ToyOutcomes {
  std::uint32_t images = 0;
  std::vector<FlipOutcome> flips;  // every single flip of the fault space
  std::vector<std::uint8_t> correct,
      correct_protected;  // [kSubsets] images, by set of flipped bits
};

inline void write(const ToyOutcomes& outcomes, const std::string& path) {
  std::ofstream file(path, std::ios::binary);
  file << "toy outcomes " << outcomes.images << " " << outcomes.flips.size() << "\n";
  for (const FlipOutcome& flip : outcomes.flips)
    for (const std::uint8_t byte : {flip.bit, flip.tensor, flip.failing})
      file.put(static_cast<char>(byte));
  for (const auto* table : {&outcomes.correct, &outcomes.correct_protected})
    for (const std::uint8_t byte : *table) file.put(static_cast<char>(byte));
  if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

inline ToyOutcomes read_toy_outcomes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string toy, name;
  std::size_t flips = 0;
  ToyOutcomes outcomes;
  file >> toy >> name >> outcomes.images >> flips;
  file.get();  // the end of the line
  const auto byte = [&] { return static_cast<std::uint8_t>(file.get()); };
  outcomes.flips.resize(flips);
  for (FlipOutcome& flip : outcomes.flips) {
    flip.bit = byte();
    flip.tensor = byte();
    flip.failing = byte();
  }
  for (auto* table : {&outcomes.correct, &outcomes.correct_protected}) {
    table->resize(kSubsets);
    for (std::uint8_t& correct : *table) correct = byte();
  }
  if (!file || toy + name != "toyoutcomes") throw std::runtime_error("cannot read " + path);
  return outcomes;
}

}  // namespace sentinel::test
