#pragma once
#include <cstdint>
#include <vector>

#include "sentinel/stats/interval.hpp"
#include "sentinel/stats/sequential.hpp"

namespace sentinel {

struct RaceOptions {
  std::vector<double> costs;  // by candidate: of those that are as good the cheapest wins
  double equal = 0.005;       // means that lie no further apart are as good
  std::uint64_t most = 2000;  // trials of a candidate
  double confidence = 0.95;   // that the best of the K candidates never leaves
};

/// A candidate that is worse than the leader, by so much.
struct Leaving {
  std::size_t candidate = 0, leader = 0;
  Interval difference;  // of the means, below 0
};

/// Which of K candidates has the largest mean, from paired trials in rounds: all that remain take
/// part in each trial. Looks are at the ends of rounds, at 32, 64, 128 ... trials. A candidate
/// leaves where the asymptotic confidence sequence of its differences from the leader, at the level
/// (1 - confidence)/K, lies below 0. The race ends where one remains, or where such intervals of
/// all pairs that remain lie within +- equal; then no candidate is better than the winner by more.
/// A function of the values alone, in the order of the trials.
class Race {
 public:
  /// Bug without candidates.
  explicit Race(RaceOptions options);

  /// By number, ascending.
  const std::vector<std::size_t>& remaining() const { return remaining_; }
  /// One value in [0, 1] of each that remains, in their order.
  void add(const std::vector<double>& values);
  std::uint64_t trials() const { return trials_; }
  /// Trials at each look of a race that never decides.
  static std::vector<std::uint64_t> round_ends(std::uint64_t most);
  /// Trials at the next look.
  std::uint64_t round_end() const;
  /// The look: those that leave by it, ascending.
  std::vector<Leaving> end_round();
  bool ended() const { return decided_ || trials_ >= options_.most; }
  /// Whether it ended by itself, and not by its last trial.
  bool decided() const { return decided_; }
  /// The cheapest of those that remain and whose mean is no more than `equal` below the largest; of
  /// equal costs that of the larger mean.
  std::size_t winner() const;
  /// Over all trials that the candidate took part in: biased upwards for the winner.
  const Moments& observed(std::size_t candidate) const { return observed_.at(candidate); }

 private:
  std::size_t leader() const;
  /// Of two different candidates that remain: mean(a) - mean(b).
  Interval difference(std::size_t a, std::size_t b) const;
  bool all_equal() const;
  AsymptoticSequence& pair(std::size_t low, std::size_t high);

  RaceOptions options_;
  std::vector<std::size_t> remaining_;
  std::vector<Moments> observed_;          // by candidate
  std::vector<AsymptoticSequence> pairs_;  // [low * K + high], low < high
  std::uint64_t trials_ = 0;
  bool decided_ = false;
};

}  // namespace sentinel
