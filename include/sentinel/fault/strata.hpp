#pragma once
#include <memory>
#include <string>
#include <vector>

#include "sentinel/core/sampling_words.hpp"
#include "sentinel/fault/population.hpp"
#include "sentinel/fault/sampler.hpp"
#include "sentinel/graph/graph.hpp"

namespace sentinel {

/// Strata of the trials of a sampler on an original network and those made from it, and trials
/// within one.
/// exact:1: by the class of the bit (bit_classes of the format; fp32: {30}, {29-27}, {26-23}, {31},
/// {22-19}, {18-0}). Bits that a code corrects are the last class, and known. Words that are stored
/// in several ways have classes for each layout, on one network alone.
/// channel: the same bits of that channel; of fp32 in three classes, {30}, {29-23}, {31, 22-0}.
/// Every silent stratum costs an interval trials of its own, and 30 alone fails often; so finer
/// ones would take more trials for a half-width, not fewer (docs/methods.md). A trial takes a
/// uniform bit of its class, with replacement: as it looks at some of the images only, a bit that
/// was tried is not known.
/// binomial flips and stuck-at-1, nothing coded: by the number of critical bits that are hit in the
/// original (critical_bit of the format, of a word where it is 0: fp32's bit 30 then multiplies the
/// value by 2^128), up to the least k_max with P(K > k_max) < 0.01, and one for all larger numbers.
/// binomial flips in coded words (WordStrata): by the number of words or blocks that are read
/// wrongly, 1, 2, 3-4, 5-8 and so on, and last none, which is known; or, of codes that leave bits
/// bare, by that of critical bits that are read as 1 where they are 0.
/// Others, and binomial where some dozens of critical bits flip, or words are read wrongly, in
/// every trial: one stratum of all.
class StratifiedSampler {
 public:
  /// `networks`: the original first. `more`: others take part that are not known yet. UserError
  /// where single faults have strata, but the networks none in common.
  StratifiedSampler(const Sampler& sampler, const std::vector<SpaceOfNetwork>& networks,
                    const FaultModel& faults = {}, bool more = false);
  /// exact:1, by what is hit. A stratum is what the networks call alike; a network may have nothing
  /// of it. Order: tensors and layouts as the networks have them, the first network's first;
  /// classes in their own order; bits from 0 on. Shares and costs are those of the first network; a
  /// stratum that it lacks has the share 0 and costs 1. UserError where words are to be divided by
  /// bit, and faults hit whole words.
  StratifiedSampler(DivideBy by, const std::vector<SpaceOfNetwork>& networks);
  ~StratifiedSampler();
  StratifiedSampler(StratifiedSampler&&) noexcept;

  const Strata& strata() const;
  /// Whether there is more than one.
  bool divides() const { return strata().names.size() > 1; }
  /// The strata's shares of a network's sites, where single faults are divided; sum 1.
  std::vector<double> weights(std::size_t network) const;
  /// The sites of a trial given its stratum, -1: of all; a pure function of its arguments. `space`:
  /// that of the network of this number; of binomial faults, the original's. None where the network
  /// has nothing of the stratum.
  Faults draw(const FaultSpace& space, std::int32_t stratum, const RngKey& key,
              std::size_t network = 0) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sentinel
