#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

#include "sentinel/fault/fault_list.hpp"

namespace sentinel {

/// Every site fails independently with probability ber, so K ~ Binomial(sites, ber) distinct
/// uniform sites.
struct BinomialFaults {
  double ber = 0;  // [faults/site/trial], 0 … 1; a site is a bit or, of some fault models, a word
};
/// floor(ber * sites of the tensor) distinct uniform sites in each tensor (the seed tool's).
struct PerLayerFloorFaults {
  double ber = 0;
};
/// Exactly count distinct uniform sites.
struct ExactFaults {
  std::uint64_t count = 1;
};
/// One flip in the filter of one output channel of a convolution: trial i takes the i-th of its N
/// bits in a seeded random order, so that n trials are a uniform sample of n distinct sites, and
/// more trials extend it. Copies of the channel are not hit.
struct ChannelFaults {
  std::string layer;  // "layer1.0.conv1"
  std::int64_t channel = 0;
};
/// The list's faults of the trial, in words of the network that it was read for; never drawn.
struct ListedFaults {
  std::shared_ptr<const FaultList> list;
};
using Sampler =
    std::variant<BinomialFaults, PerLayerFloorFaults, ExactFaults, ChannelFaults, ListedFaults>;

/// How many faults a trial has.
struct FaultCount {
  enum class Kind : std::uint8_t { kBinomial, kPerLayerFloor, kExact };
  Kind kind = Kind::kBinomial;
  std::uint64_t exact = 0;  // kExact: at least 1

  bool is_exact() const { return kind == Kind::kExact; }
  bool is_single() const { return is_exact() && exact == 1; }
  bool operator==(const FaultCount& o) const { return kind == o.kind && exact == o.exact; }
  bool operator!=(const FaultCount& o) const { return !(*this == o); }
};
inline constexpr FaultCount kSingleFault{FaultCount::Kind::kExact, 1};
/// "binomial", "per-layer-floor", "exact:K". UserError.
FaultCount parse_fault_count(const std::string& word);
std::string fault_count_name(const FaultCount& count);
/// `ber` has no part in exact counts. UserError where it lies outside [0, 1].
Sampler sampler_of(const FaultCount& count, double ber);
/// "binomial", "per-layer-floor", "exact:K", "channel:LAYER:C", "listed".
std::string sampler_name(const Sampler& sampler);
/// The BER, 0 where the number of faults is fixed.
double sampler_ber(const Sampler& sampler);

/// The faults of a trial: a pure function of its arguments. Throws UserError where the space has
/// fewer bits than asked, or not the layer. (For many trials of ChannelFaults keep a ChannelOrder.)
Faults draw(const Sampler& sampler, const FaultSpace& space, const RngKey& key);

/// The order in which the trials of ChannelFaults visit the channel's bits: a Fisher-Yates shuffle
/// of which only what was asked for is drawn and kept, from the stream {key.seed, key.point, trial
/// 0, kChannelSites}.
class ChannelOrder {
 public:
  /// UserError where the space has no such layer or channel.
  ChannelOrder(const ChannelFaults& sampler, const FaultSpace& space, const RngKey& key);
  /// N, and the number in the space of the first of them; the channel's words lie side by side.
  std::uint64_t bits() const { return bits_; }
  std::uint64_t first_bit() const { return first_; }
  /// Number in the space of the bit that trial `trial` < N flips. Draws as far as that.
  std::uint64_t at(std::uint64_t trial);

 private:
  std::uint64_t first_ = 0, bits_ = 0;
  Rng rng_;
  std::vector<std::uint64_t> drawn_;
  std::unordered_map<std::uint64_t, std::uint64_t> moved_;  // place -> bit, where not its own
};

/// Binomial faults of a trial on a model made from an original one: the faults of the original on
/// the sites the two share, independent ones on the copies (key.purpose kCopyFaults) and on tensors
/// that are stored otherwise (kLayoutFaults, by the layout). `in_original`: with their effects.
Faults draw_paired(const BinomialFaults& sampler, const FaultModel& faults,
                   const Faults& in_original, const SiteMap& map, const FaultSpace& model,
                   RngKey key);

/// Gives drawn sites what they do: lengths and random words are drawn in their order, from
/// {key.seed, key.point, key.trial, kFaultEffects}. Plain flips stay as they are.
void give_effects(const FaultModel& model, Faults& faults, RngKey key);

/// Expected number of faults in each tensor of the space per trial.
std::vector<double> expected_faults(const Sampler& sampler, const FaultSpace& space);

}  // namespace sentinel
