#include "sentinel/fault/trial_cost.hpp"

#include <cmath>

namespace sentinel {
namespace {

constexpr double kAuditShare = 0.02;  // of the time of the trials themselves
// Both on the safe side: what a machine makes of MACs is not known before the run.
/// Time of a MAC in the reference path (NCHW, operator by operator) over one in the fast path.
constexpr double kReferenceMac = 2;
/// Where one flip touches one channel, most of its layers and of the images need no run.
constexpr double kOneFlip = 0.1;

/// Probability that a trial has a fault in the first tensors, which hold the share `share` of the
/// bits and `expected` faults per trial.
double hit_probability(const Sampler& sampler, double share, double expected) {
  if (const auto* exact = std::get_if<ExactFaults>(&sampler))
    return 1 - std::pow(1 - share, static_cast<double>(exact->count));
  if (const auto* binomial = std::get_if<BinomialFaults>(&sampler); binomial && binomial->ber < 1)
    return -std::expm1(-expected);
  return expected > 0 ? 1 : 0;
}

bool flips_once(const Sampler& sampler) {
  const auto* exact = std::get_if<ExactFaults>(&sampler);
  return (exact && exact->count == 1) || std::holds_alternative<ChannelFaults>(sampler);
}

}  // namespace

double relative_cost(const Sampler& sampler, const FaultSpace& space, const ModelCost& cost) {
  const std::vector<double> expected = expected_faults(sampler, space);
  double run = 0, total = 0, faults = 0;
  for (std::size_t t = 0; t < expected.size(); ++t) {
    const FaultTensor& tensor = space.tensors()[t];
    faults += expected[t];
    const double bits = static_cast<double>(tensor.first_bit) +
                        static_cast<double>(tensor.elements) * word_bits(tensor.codec);
    const auto macs = static_cast<double>(cost.layers[static_cast<std::size_t>(tensor.node)].macs);
    run += macs * hit_probability(sampler, bits / static_cast<double>(space.bits()), faults);
    total += macs;
  }
  return run / total;
}

double default_audit_rate(const Sampler& sampler, double relative_cost) {
  const double trial = relative_cost * (flips_once(sampler) ? kOneFlip : 1);
  // An audit runs the trial once more by either path.
  return kAuditShare * trial / (kReferenceMac + relative_cost);
}

}  // namespace sentinel
