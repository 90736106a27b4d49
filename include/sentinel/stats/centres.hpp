#pragma once
#include <array>
#include <cstdint>

namespace sentinel {

/// Shares of the outcomes masked, SDC-non-critical, SDC-critical, DUE; their sum is 1.
using OutcomeShares = std::array<double, 4>;

/// The outcome shares of a model as a sequential plan knows them before each of its rounds: means
/// over the trials of all earlier rounds but the last, weighted by W/q. Its trials may still
/// run when the next is drawn. Before there are any, 1/4 each.
class Centres {
 public:
  /// Before the round of the next trial.
  const OutcomeShares& now() const { return now_; }
  std::uint32_t round() const { return round_; }
  /// The next trial, of weight W/q.
  void add(double weight, const OutcomeShares& shares);

 private:
  struct Sums {
    OutcomeShares shares{};
    double weight = 0;
  };
  void end_round();

  OutcomeShares now_{0.25, 0.25, 0.25, 0.25};
  Sums past_, last_, current_;
  std::uint32_t round_ = 0;
  std::uint64_t length_ = 0, trials_ = 0;  // of the round; length_ 0: not begun
};

}  // namespace sentinel
