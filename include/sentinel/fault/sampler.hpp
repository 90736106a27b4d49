#pragma once
#include <cstdint>
#include <string>
#include <variant>

#include "sentinel/fault/fault_space.hpp"

namespace sentinel {

/// Every bit flips independently with probability ber, so K ~ Binomial(bits, ber) distinct uniform
/// sites.
struct BinomialFaults {
  double ber = 0;  // [flips/bit/trial], 0 … 1
};
/// floor(ber * bits of the layer) distinct uniform sites in each layer (the seed tool's).
struct PerLayerFloorFaults {
  double ber = 0;
};
/// Exactly count distinct uniform sites.
struct ExactFaults {
  std::uint64_t count = 1;
};
using Sampler = std::variant<BinomialFaults, PerLayerFloorFaults, ExactFaults>;

/// Parses --fault-count: "binomial", "per-layer-floor", "exact:K". Throws UserError, also for a BER
/// outside [0, 1].
Sampler parse_sampler(const std::string& fault_count, double ber);
/// "binomial", "per-layer-floor", "exact:K".
std::string sampler_name(const Sampler& sampler);
/// The BER, 0 for ExactFaults.
double sampler_ber(const Sampler& sampler);

/// The faults of a trial: a pure function of its arguments. Throws UserError where the space has
/// fewer bits than asked.
Faults draw(const Sampler& sampler, const FaultSpace& space, const RngKey& key);

/// Binomial faults of a trial on a model made from an original one: the flips of the original on
/// the sites the two share (key.purpose kFaults), independent ones on the copies (kCopyFaults)
/// (design 05, "Paired").
Faults draw_paired(const BinomialFaults& sampler, const FaultSpace& original, const SiteMap& map,
                   const FaultSpace& model, RngKey key);

/// Expected number of faults in each tensor of the space per trial.
std::vector<double> expected_faults(const Sampler& sampler, const FaultSpace& space);

}  // namespace sentinel
