#include "sentinel/stats/race.hpp"

#include <algorithm>
#include <numeric>

#include "sentinel/core/error.hpp"

namespace sentinel {
namespace {

constexpr std::uint64_t kFirstRound = 32;  // trials
constexpr double kTunedFor = 200;          // trials: most races end there or before

}  // namespace

Race::Race(RaceOptions options) : options_(std::move(options)) {
  const std::size_t count = options_.costs.size();
  if (count == 0) throw Bug("a race without candidates");
  remaining_.resize(count);
  std::iota(remaining_.begin(), remaining_.end(), std::size_t{0});
  observed_.resize(count);
  const double level = (1 - options_.confidence) / static_cast<double>(count);
  pairs_.assign(count * count, AsymptoticSequence(1 - level, kTunedFor));
  decided_ = count == 1;
}

void Race::add(const std::vector<double>& values) {
  if (values.size() != remaining_.size()) throw Bug("a trial of a race lacks a candidate");
  for (std::size_t b = 0; b < values.size(); ++b) {
    observed_[remaining_[b]].add(values[b]);
    for (std::size_t a = 0; a < b; ++a)
      pair(remaining_[a], remaining_[b]).add(values[a] - values[b]);
  }
  ++trials_;
}

std::vector<std::uint64_t> Race::round_ends(std::uint64_t most) {
  std::vector<std::uint64_t> ends;
  for (std::uint64_t end = kFirstRound; end < most; end *= 2) ends.push_back(end);
  ends.push_back(most);
  return ends;
}

std::uint64_t Race::round_end() const {
  return std::min(options_.most, trials_ == 0 ? kFirstRound : 2 * trials_);
}

std::vector<Leaving> Race::end_round() {
  const std::size_t first = leader();
  std::vector<Leaving> leaving;
  std::vector<std::size_t> staying;
  for (const std::size_t candidate : remaining_) {
    const Interval apart = candidate == first ? Interval() : difference(candidate, first);
    if (apart.upper < 0)
      leaving.push_back({candidate, first, apart});
    else
      staying.push_back(candidate);
  }
  remaining_ = std::move(staying);
  decided_ = all_equal();
  return leaving;
}

std::size_t Race::winner() const {
  const double wanted = observed_[leader()].mean() - options_.equal;
  const auto better = [&](std::size_t a, std::size_t b) {
    if (options_.costs[a] != options_.costs[b]) return options_.costs[a] < options_.costs[b];
    return observed_[a].mean() > observed_[b].mean();
  };
  std::vector<std::size_t> good;
  for (const std::size_t candidate : remaining_)
    if (observed_[candidate].mean() >= wanted) good.push_back(candidate);
  return *std::min_element(good.begin(), good.end(), better);
}

std::size_t Race::leader() const {
  return *std::max_element(remaining_.begin(), remaining_.end(), [&](std::size_t a, std::size_t b) {
    return observed_[a].mean() < observed_[b].mean();
  });
}

Interval Race::difference(std::size_t a, std::size_t b) const {
  const std::size_t place = std::min(a, b) * observed_.size() + std::max(a, b);
  Interval interval = pairs_[place].interval(-1, 1);
  if (a < b) return interval;
  interval.estimate = -interval.estimate;
  std::swap(interval.lower, interval.upper);
  interval.lower = -interval.lower;
  interval.upper = -interval.upper;
  return interval;
}

bool Race::all_equal() const {
  for (const std::size_t b : remaining_)
    for (const std::size_t a : remaining_) {
      if (a >= b) break;
      const Interval apart = difference(a, b);
      if (apart.lower < -options_.equal || apart.upper > options_.equal) return false;
    }
  return true;
}

AsymptoticSequence& Race::pair(std::size_t low, std::size_t high) {
  return pairs_[low * observed_.size() + high];
}

}  // namespace sentinel
