#pragma once
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "golden/toy_outcomes.hpp"
#include "sentinel/core/rng.hpp"

/// Populations of trials with known means, on which intervals are tried.
namespace sentinel::test {

struct Population {
  std::string name;
  std::function<double(Rng&)> draw;
  double truth, low, high;
};

/// Trials of which a share fails in all images.
inline Population whole_failures(double share) {
  return {"all images fail, " + std::to_string(share).substr(0, 5),
          [=](Rng& rng) { return rng.uniform() < share ? 1.0 : 0.0; }, share, 0, 1};
}

/// … or in most of them: 0.9 U^(1/5), of mean 3/4.
inline Population most_fail(double share) {
  return {"most images fail, " + std::to_string(share).substr(0, 5),
          [=](Rng& rng) {
            const double u = rng.uniform();
            return u < share ? 0.9 * std::pow(u / share, 0.2) : 0;
          },
          0.75 * share, 0, 1};
}

/// A network of 90 % accuracy that falls to 10 % in rare trials.
inline Population rare_collapse(double share) {
  return {"accuracy collapses, " + std::to_string(share).substr(0, 5),
          [=](Rng& rng) { return rng.uniform() < share ? -0.8 : 0; }, -0.8 * share, -0.9, 0.1};
}

/// Two networks of which only the first collapses.
inline Population rare_difference(double share) {
  return {"differences, " + std::to_string(share).substr(0, 5),
          [=](Rng& rng) { return rng.uniform() < share ? 0.8 : 0; }, 0.8 * share, -1, 1};
}

/// Losses of which few trials have the most: 0.8 U^power.
inline Population skewed_losses(int power) {
  return {"losses 0.8 U^" + std::to_string(power),
          [=](Rng& rng) { return -0.8 * std::pow(rng.uniform(), power); }, -0.8 / (power + 1), -0.9,
          0.1};
}

/// The enumerated network of golden/, each of 16 bits flipped with probability beta: accuracy of
/// one of its two versions, or the difference of both.
enum class Toy { kAccuracy, kDifference };
inline Population toy_population(Toy what, double beta = 0.05) {
  static const ToyOutcomes toy = read_toy_outcomes(SENTINEL_GOLDEN_FOLDER "/toy_outcomes.bin");
  const auto value = [what](std::uint32_t subset) {
    const double right = toy.correct[subset], other = toy.correct_protected[subset];
    return (what == Toy::kAccuracy ? right : other - right) / toy.images;
  };
  Population population{what == Toy::kAccuracy ? "toy, accuracy" : "toy, difference",
                        [=](Rng& rng) {
                          std::uint32_t subset = 0;
                          for (std::uint32_t i = 0; i < kSubsetBits; ++i)
                            subset |= std::uint32_t{rng.uniform() < beta} << i;
                          return value(subset);
                        },
                        0, what == Toy::kAccuracy ? 0.0 : -1.0, 1};
  for (std::uint32_t subset = 0; subset < kSubsets; ++subset) {
    double p = 1;
    for (std::uint32_t i = 0; i < kSubsetBits; ++i) p *= subset >> i & 1 ? beta : 1 - beta;
    population.truth += p * value(subset);
  }
  return population;
}

inline std::vector<Population> all_populations() {
  return {toy_population(Toy::kAccuracy),
          toy_population(Toy::kDifference),
          whole_failures(0.001),
          whole_failures(0.01),
          most_fail(0.001),
          most_fail(0.01),
          rare_collapse(0.001),
          rare_collapse(0.01),
          {"identical columns", [](Rng&) { return 0.0; }, 0, -1, 1},
          rare_difference(0.001),
          rare_difference(0.01),
          skewed_losses(4),
          skewed_losses(20)};
}

}  // namespace sentinel::test
