#include "sentinel/fault/strata.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "fault/weights.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/graph/profile.hpp"

namespace sentinel {
namespace {

struct BitClass {
  int low, high;  // both included
};
using BitClasses = std::vector<std::vector<BitClass>>;  // by stratum its ranges of bits
const BitClasses kBitClasses = {{{30, 30}}, {{27, 29}}, {{23, 26}},
                                {{31, 31}}, {{19, 22}}, {{0, 18}}};
const BitClasses kChannelBitClasses = {{{30, 30}}, {{23, 29}}, {{0, 22}, {31, 31}}};
constexpr int kWordBits = 32;
constexpr int kCriticalBit = 30;
constexpr double kTail = 0.01;  // share of the trials that may be pooled
constexpr std::size_t kMostStrata =
    33;  // more: so many critical flips that their number says little

Strata whole() {
  return {{"all"}, {1}, {1}};
}

int size_of(const std::vector<BitClass>& stratum) {
  int size = 0;
  for (const auto& [low, high] : stratum) size += high - low + 1;
  return size;
}

/// "bit 30", "bits 29-23", "bits 22-0, 31"
std::string name_of(const std::vector<BitClass>& stratum) {
  std::string name = size_of(stratum) == 1 ? "bit " : "bits ";
  for (const auto& [low, high] : stratum) {
    if (low != stratum.front().low) name += ", ";
    name += low == high ? fmt::format("{}", low) : fmt::format("{}-{}", high, low);
  }
  return name;
}

Strata bit_strata(const BitClasses& classes) {
  Strata strata;
  for (const std::vector<BitClass>& stratum : classes) {
    strata.names.push_back(name_of(stratum));
    strata.weights.push_back(static_cast<double>(size_of(stratum)) / kWordBits);
    strata.costs.push_back(1);
  }
  return strata;
}

std::uint8_t draw_bit(const std::vector<BitClass>& stratum, Rng& rng) {
  auto place = static_cast<int>(rng.below(static_cast<std::uint64_t>(size_of(stratum))));
  for (const auto& [low, high] : stratum) {
    if (place <= high - low) return static_cast<std::uint8_t>(low + place);
    place -= high - low + 1;
  }
  throw Bug("a place beyond the bits of a stratum");
}

/// Numbers of bits in a space.
struct BitRange {
  std::uint64_t first, bits;
};

BitRange range_of(const Sampler& sampler, const FaultSpace& space) {
  const auto* channel = std::get_if<ChannelFaults>(&sampler);
  if (!channel) return {0, space.bits()};
  const ChannelOrder order(*channel, space, {});
  return {order.first_bit(), order.bits()};
}

/// P(K = k) of n trials with probability p, for k = 0 ... until P(K > k) < kTail, and that tail.
std::vector<double> count_probabilities(std::uint64_t n, double p) {
  std::vector<double> all;
  const auto trials = static_cast<double>(n);
  double probability = std::exp(trials * std::log1p(-p)), left = 1;
  for (std::size_t k = 0; left >= kTail && all.size() <= kMostStrata; ++k) {
    all.push_back(probability);
    left -= probability;
    const auto have = static_cast<double>(k);
    probability *= (trials - have) / (have + 1) * p / (1 - p);
  }
  // Exactly, as sums of what was left out cancel badly.
  double tail = 0;
  for (double term = probability, k = static_cast<double>(all.size()); term > 1e-18 * probability;
       ++k) {
    tail += term;
    term *= std::max(0.0, (trials - k) / (k + 1) * p / (1 - p));
  }
  if (tail > 0) all.push_back(tail);
  return all;
}

}  // namespace

struct StratifiedSampler::State {
  Sampler sampler;
  Strata strata;
  // binomial, divided
  std::vector<std::vector<bool>> critical;  // by tensor and element: bit 30 is 0
  std::uint64_t critical_bits = 0;

  void find_critical(const Graph& graph, const FaultSpace& space);
  void divide_binomial(const Graph& graph, const FaultSpace& space, double ber);
  double cost(const Graph& graph, const FaultSpace& space, double ber, std::size_t k) const;
  bool is_critical(const FaultSite& site) const {
    return site.bit == kCriticalBit && critical[site.tensor][site.element];
  }
  std::uint64_t critical_count(std::int32_t stratum, Rng& rng) const;
  Faults draw_critical(const FaultSpace& space, std::uint64_t count, Rng& rng) const;
  Faults draw_binomial(const FaultSpace& space, std::int32_t stratum, const RngKey& key) const;
};

void StratifiedSampler::State::find_critical(const Graph& graph, const FaultSpace& space) {
  for (const FaultTensor& tensor : space.tensors()) {
    const at::Tensor words = weight_of(graph[tensor.node].op)->to(at::kCPU).contiguous();
    const auto* word = static_cast<const std::uint32_t*>(words.data_ptr());
    std::vector<bool>& zero = critical.emplace_back(tensor.elements);
    for (std::uint64_t i = 0; i < tensor.elements; ++i) {
      zero[i] = (word[i] >> kCriticalBit & 1) == 0;
      critical_bits += zero[i] ? 1 : 0;
    }
  }
}

void StratifiedSampler::State::divide_binomial(const Graph& graph, const FaultSpace& space,
                                               double ber) {
  find_critical(graph, space);
  std::vector<double> weights = count_probabilities(critical_bits, ber);
  if (weights.size() > kMostStrata) return;
  strata = {};
  for (std::size_t k = 0; k < weights.size(); ++k) {
    const bool rest = k + 1 == weights.size();
    strata.names.push_back(rest ? fmt::format("{} or more critical bits", k)
                                : fmt::format("{} critical bit{}", k, k == 1 ? "" : "s"));
    strata.costs.push_back(cost(graph, space, ber, k));
  }
  strata.weights = std::move(weights);
}

/// Share of the network's MACs that are run anew with k critical flips: those of a layer unless all
/// faults lie behind it.
double StratifiedSampler::State::cost(const Graph& graph, const FaultSpace& space, double ber,
                                      std::size_t k) const {
  const ModelCost model = model_cost(graph);
  double run = 0, total = 0, bits = 0;
  const auto all = static_cast<double>(space.bits());
  for (const FaultTensor& tensor : space.tensors()) {
    bits += static_cast<double>(tensor.elements) * kWordBits;
    const auto macs = static_cast<double>(model.layers[static_cast<std::size_t>(tensor.node)].macs);
    const double spared =
        std::pow(1 - bits / all, static_cast<double>(k)) * std::pow(1 - ber, bits);
    run += macs * (1 - spared);
    total += macs;
  }
  // A trial without any fault still has its row.
  return std::max(run / total, 1e-3);
}

/// The stratum's number of critical flips; of the last one, a draw from the tail of the binomial
/// distribution, whose terms relative to the first need no function but division.
std::uint64_t StratifiedSampler::State::critical_count(std::int32_t stratum, Rng& rng) const {
  const auto first = static_cast<std::uint64_t>(stratum);
  if (first + 1 < strata.names.size()) return first;
  const double ber = std::get<BinomialFaults>(sampler).ber;
  const auto ratio = [&](std::uint64_t k) {
    return static_cast<double>(critical_bits - k) / static_cast<double>(k + 1) * ber / (1 - ber);
  };
  double total = 0, term = 1;
  for (std::uint64_t k = first; term > 1e-18 && k <= critical_bits; term *= ratio(k++))
    total += term;
  double left = rng.uniform() * total;
  std::uint64_t k = first;
  for (term = 1; k < critical_bits && left >= term; term *= ratio(k++)) left -= term;
  return k;
}

/// Distinct critical sites, uniform: words are drawn until enough have the bit 0 (nearly all do).
Faults StratifiedSampler::State::draw_critical(const FaultSpace& space, std::uint64_t count,
                                               Rng& rng) const {
  Faults chosen;
  while (chosen.size() < count) {
    FaultSite site = space.at(rng.below(space.bits() / kWordBits) * kWordBits);
    site.bit = kCriticalBit;
    if (is_critical(site) && std::find(chosen.begin(), chosen.end(), site) == chosen.end())
      chosen.push_back(site);
  }
  return chosen;
}

Faults StratifiedSampler::State::draw_binomial(const FaultSpace& space, std::int32_t stratum,
                                               const RngKey& key) const {
  Rng rng({key.seed, key.point, key.trial, Purpose::kCriticalFaults});
  Faults faults = draw_critical(space, critical_count(stratum, rng), rng);
  // All other bits flip independently of how many of these do.
  for (const FaultSite& site : sentinel::draw(sampler, space, key))
    if (!is_critical(site)) faults.push_back(site);
  std::sort(faults.begin(), faults.end());
  return faults;
}

StratifiedSampler::StratifiedSampler(const Sampler& sampler, const Graph& original,
                                     const FaultSpace& space)
    : state_(std::make_unique<State>()) {
  for (const FaultTensor& tensor : space.tensors())
    if (word_bits(tensor.codec) != kWordBits) throw Bug("strata of words that have not 32 bits");
  state_->sampler = sampler;
  state_->strata = whole();
  const auto* binomial = std::get_if<BinomialFaults>(&sampler);
  const auto* exact = std::get_if<ExactFaults>(&sampler);
  if (exact && exact->count == 1) state_->strata = bit_strata(kBitClasses);
  if (std::holds_alternative<ChannelFaults>(sampler))
    state_->strata = bit_strata(kChannelBitClasses);
  if (binomial && binomial->ber > 0 && binomial->ber < 1)
    state_->divide_binomial(original, space, binomial->ber);
}

StratifiedSampler::~StratifiedSampler() = default;
StratifiedSampler::StratifiedSampler(StratifiedSampler&&) noexcept = default;

const Strata& StratifiedSampler::strata() const {
  return state_->strata;
}

Faults StratifiedSampler::draw(const FaultSpace& space, std::int32_t stratum,
                               const RngKey& key) const {
  if (stratum < 0 || !divides()) return sentinel::draw(state_->sampler, space, key);
  if (std::holds_alternative<BinomialFaults>(state_->sampler))
    return state_->draw_binomial(space, stratum, key);
  const bool channel = std::holds_alternative<ChannelFaults>(state_->sampler);
  const BitClasses& classes = channel ? kChannelBitClasses : kBitClasses;
  const BitRange range = range_of(state_->sampler, space);
  Rng rng(key);
  FaultSite site = space.at(range.first + rng.below(range.bits / kWordBits) * kWordBits);
  site.bit = draw_bit(classes[static_cast<std::size_t>(stratum)], rng);
  return {site};
}

}  // namespace sentinel
