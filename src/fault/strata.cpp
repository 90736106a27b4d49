#include "sentinel/fault/strata.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "fault/site_strata.hpp"
#include "fault/word_strata.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/fault/memory.hpp"
#include "sentinel/graph/profile.hpp"
#include "sentinel/words/misreads.hpp"

namespace sentinel {
namespace {

constexpr double kTail = 0.01;  // share of the trials that may be pooled
constexpr std::size_t kMostStrata =
    33;  // more: so many critical flips that their number says little

Strata whole() {
  return {{"all"}, {1}, {1}};
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
  std::vector<SiteStrata> single;  // single faults, divided: by network
  // binomial, divided: words with a critical bit, and which of them have it at 0
  struct Critical {
    std::uint64_t first_word = 0;  // among all that have one
    std::uint8_t bit = 0;
    std::vector<bool> zero;  // by element; empty: the tensor has no critical bit
  };
  std::vector<Critical> critical;  // by tensor
  std::uint64_t critical_words = 0, critical_bits = 0;
  std::optional<WordStrata> words;  // binomial, coded, divided

  void divide_single(const std::vector<SpaceOfNetwork>& networks, bool more);
  void find_critical(const Graph& graph, const FaultSpace& space);
  void divide_binomial(const Graph& graph, const FaultSpace& space, double ber);
  void divide_words(const Graph& graph, const FaultSpace& space, double ber);
  double cost(const Graph& graph, const FaultSpace& space, double ber, std::size_t k) const;
  bool is_critical(const FaultSite& site) const {
    const Critical& own = critical[site.tensor];
    return !own.zero.empty() && site.bit == own.bit && own.zero[site.element];
  }
  FaultSite critical_site(const FaultSpace& space, std::uint64_t word) const;
  std::uint64_t critical_count(std::int32_t stratum, Rng& rng) const;
  Faults draw_critical(const FaultSpace& space, std::uint64_t count, Rng& rng) const;
  Faults draw_binomial(const FaultSpace& space, std::int32_t stratum, const RngKey& key) const;
};

void StratifiedSampler::State::divide_single(const std::vector<SpaceOfNetwork>& networks,
                                             bool more) {
  const auto* channel = std::get_if<ChannelFaults>(&sampler);
  const bool alone = networks.size() == 1 && !more;
  std::optional<SiteStrata> first = strata_by_bits(networks.front().space, channel);
  const int version = first ? 1 : 2;
  if (!first && !channel && alone) first = strata_by_layout(networks.front().space);
  if (!first || first->strata().names.size() < 2) return;
  strata = first->strata();
  strata.version = version;
  single.push_back(std::move(*first));
  for (std::size_t n = 1; n < networks.size(); ++n) {
    const FaultSpace& space = networks[n].space;
    SiteStrata own =
        strata_by_bits(space, channel).value_or(SiteStrata(SiteStrata::DrawBy::kWordAndBit));
    if (space.sites() > 0 && own.strata().names != strata.names)
      throw UserError(spelled(Setting::kSampling) + " stratified, " + spelled(Setting::kHalfWidth) +
                      ": the networks store their values in different ways, so that they have no "
                      "classes of bits in common; inject them one by one");
    single.push_back(std::move(own));
  }
}

void StratifiedSampler::State::find_critical(const Graph& graph, const FaultSpace& space) {
  const Memory memory(graph);
  for (const FaultTensor& tensor : space.tensors()) {
    Critical& own = critical.emplace_back();
    const std::optional<int> bit = critical_bit(tensor.layout.format);
    if (!bit || !std::binary_search(tensor.bits.begin(), tensor.bits.end(), *bit)) continue;
    own.first_word = critical_words;
    own.bit = static_cast<std::uint8_t>(*bit);
    own.zero.resize(tensor.elements);
    critical_words += tensor.selected;
    for (const NumberRange& range : tensor.ranges)
      for (std::uint64_t i = range.begin; i < range.end; ++i) {
        own.zero[i] = (memory.word(tensor.stored, i) >> *bit & 1) == 0;
        critical_bits += own.zero[i] ? 1 : 0;
      }
  }
}

void StratifiedSampler::State::divide_binomial(const Graph& graph, const FaultSpace& space,
                                               double ber) {
  find_critical(graph, space);
  if (critical_bits == 0) return;
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

/// That without words read wrongly is the last: known, as it is the fault-free network.
void StratifiedSampler::State::divide_words(const Graph& graph, const FaultSpace& space,
                                            double ber) {
  words = WordStrata::of(graph, space, ber);
  if (!words) return;
  strata = {};
  const bool all = words->counts_all();
  const std::string one = !all                 ? "critical misread"
                          : words->in_blocks() ? "block"
                                               : "word",
                    end = all ? " read wrongly" : "";
  const std::vector<WordStrata::Class>& by_count = words->classes();
  for (std::size_t h = all ? 1 : 0; h < by_count.size(); ++h) {
    const auto [first, last, share, mean] = by_count[h];
    const std::string number = h + 1 == by_count.size() ? fmt::format("{} or more", first)
                               : first < last           ? fmt::format("{} to {}", first, last)
                                                        : fmt::format("{}", first);
    strata.names.push_back(number + " " + one + (number == "1" ? "" : "s") + end);
    strata.weights.push_back(share);
    strata.counts.push_back(mean);
    const auto near = static_cast<std::size_t>(std::lround(mean));
    strata.costs.push_back(cost(graph, space, all ? 0 : ber, near));  // of all: the rest is silent
  }
  strata.version = 2;
  strata.of_words = all;
  if (!all) return;
  strata.names.emplace_back("all words read right");
  strata.weights.push_back(by_count.front().share);
  strata.counts.push_back(0);
  strata.costs.push_back(0);
}

/// Share of the network's MACs that are run anew with k critical flips: those of a layer unless all
/// faults lie behind it.
double StratifiedSampler::State::cost(const Graph& graph, const FaultSpace& space, double ber,
                                      std::size_t k) const {
  const ModelCost model = model_cost(graph);
  double run = 0, total = 0, sites = 0;
  const auto all = static_cast<double>(space.sites());
  std::size_t t = 0;
  for (NodeId node = 0; node < graph.size(); ++node) {
    for (; t < space.tensors().size() && space.tensors()[t].node <= node; ++t)
      sites += static_cast<double>(space.tensors()[t].sites());
    const auto macs = static_cast<double>(model.layers[static_cast<std::size_t>(node)].macs);
    if (macs == 0) continue;
    const double spared =
        std::pow(1 - sites / all, static_cast<double>(k)) * std::pow(1 - ber, sites);
    run += macs * (1 - spared);
    total += macs;
  }
  return std::max(run / total, kCostOfARow);
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

/// The critical bit of a word among those that have one.
FaultSite StratifiedSampler::State::critical_site(const FaultSpace& space,
                                                  std::uint64_t word) const {
  std::size_t t = 0;
  for (std::size_t next = 0; next < critical.size(); ++next)
    if (!critical[next].zero.empty() && critical[next].first_word <= word) t = next;
  const FaultTensor& tensor = space.tensors()[t];
  FaultSite site =
      space.at(tensor.first_site + (word - critical[t].first_word) * tensor.bits.size());
  site.bit = critical[t].bit;
  return site;
}

/// Distinct critical sites, uniform: words are drawn until enough have the bit 0 (nearly all do).
Faults StratifiedSampler::State::draw_critical(const FaultSpace& space, std::uint64_t count,
                                               Rng& rng) const {
  Faults chosen;
  while (chosen.size() < count) {
    const FaultSite site = critical_site(space, rng.below(critical_words));
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

StratifiedSampler::StratifiedSampler(const Sampler& sampler,
                                     const std::vector<SpaceOfNetwork>& networks,
                                     const FaultModel& faults, bool more)
    : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.sampler = sampler;
  s.strata = whole();
  if (!faults.of_bits() || faults.of_words()) return;
  const auto* binomial = std::get_if<BinomialFaults>(&sampler);
  const auto* exact = std::get_if<ExactFaults>(&sampler);
  if (std::holds_alternative<ChannelFaults>(sampler) || (exact && exact->count == 1))
    s.divide_single(networks, more);
  if (!binomial || binomial->ber <= 0 || binomial->ber >= 1) return;
  const auto& [original, space] = networks.front();
  if (space.of_outputs()) return;
  const bool plain = std::all_of(space.tensors().begin(), space.tensors().end(),
                                 [](const FaultTensor& t) { return !t.layout.code; });
  if (plain && faults.effect != Effect::kStuckAt0)
    s.divide_binomial(original, space, binomial->ber);
  if (!plain && faults.effect == Effect::kFlip) s.divide_words(original, space, binomial->ber);
}

StratifiedSampler::StratifiedSampler(DivideBy by, const std::vector<SpaceOfNetwork>& networks)
    : state_(std::make_unique<State>()) {
  state_->sampler = ExactFaults{1};
  state_->single = strata_by_part(by, networks);
  state_->strata = state_->single.front().strata();
  for (double& cost : state_->strata.costs) cost = std::max(kCostOfARow, cost);
}

StratifiedSampler::~StratifiedSampler() = default;
StratifiedSampler::StratifiedSampler(StratifiedSampler&&) noexcept = default;

const Strata& StratifiedSampler::strata() const {
  return state_->strata;
}

std::vector<double> StratifiedSampler::weights(std::size_t network) const {
  return state_->single.at(network).strata().weights;
}

Faults StratifiedSampler::draw(const FaultSpace& space, std::int32_t stratum, const RngKey& key,
                               std::size_t network) const {
  const State& s = *state_;
  if (stratum < 0) return sentinel::draw(s.sampler, space, key);
  const auto h = static_cast<std::size_t>(stratum);
  if (!s.single.empty()) return s.single.at(network).draw(space, h, key);
  if (!divides()) return sentinel::draw(s.sampler, space, key);
  if (!s.words) return s.draw_binomial(space, stratum, key);
  const auto& by_count = s.words->classes();
  const bool all = s.words->counts_all();  // then the first is the last stratum
  return s.words->draw(space, by_count[all ? (h + 1) % by_count.size() : h], key);
}

}  // namespace sentinel
