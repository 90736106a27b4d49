#pragma once
#include <memory>
#include <string>
#include <vector>

#include "sentinel/fault/sampler.hpp"
#include "sentinel/graph/graph.hpp"

namespace sentinel {

/// A population of trials cut into parts of known shares.
struct Strata {
  std::vector<std::string> names;
  std::vector<double> weights;  // shares, sum 1
  std::vector<double> costs;    // mean work of a trial, relative; from MACs, never from the clock
};

/// Strata of the trials of a sampler on an original network and those made from it, and trials
/// within one.
/// exact:1: by the class of the flipped bit: {30}, {29-27}, {26-23}, {31}, {22-19}, {18-0}; the
/// shares are the same for every network of 32-bit words.
/// channel: the same bits of that channel in three classes, {30}, {29-23}, {31, 22-0}. Every silent
/// stratum costs an interval trials of its own, and 30 alone fails often; so finer ones would take
/// more trials for a half-width, not fewer (docs/methods.md). A trial takes a uniform bit of its
/// class, with replacement: as it looks at some of the images only, a bit that was tried is not
/// known.
/// binomial: by the number of flipped critical bits (bit 30 of a word where it is 0; a flip of it
/// multiplies the weight by 2^128) of the original, up to the least k_max with P(K > k_max) < 0.01,
/// and one for all larger numbers.
/// Others, and binomial where some dozens of critical bits flip in every trial: one stratum of all.
class StratifiedSampler {
 public:
  /// `original`: fault-free; `space`: its own.
  StratifiedSampler(const Sampler& sampler, const Graph& original, const FaultSpace& space);
  ~StratifiedSampler();
  StratifiedSampler(StratifiedSampler&&) noexcept;

  const Strata& strata() const;
  /// Whether there is more than one.
  bool divides() const { return strata().names.size() > 1; }
  /// A trial's faults given its stratum, -1: of all; a pure function of its arguments. `space`: of
  /// the original, or for single flips (exact:1, channel) that of any network.
  Faults draw(const FaultSpace& space, std::int32_t stratum, const RngKey& key) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sentinel
