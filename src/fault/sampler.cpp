#include "sentinel/fault/sampler.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <unordered_set>

#include "sentinel/core/error.hpp"
#include "sentinel/core/portable_math.hpp"

namespace sentinel {
namespace {

using Bits = std::vector<std::uint64_t>;  // bit numbers

void check_ber(double ber) {
  if (!(ber >= 0 && ber <= 1))
    throw UserError("--ber must lie between 0 and 1, not " + std::to_string(ber));
}

std::uint64_t tensor_bits(const FaultTensor& tensor) {
  return tensor.elements * static_cast<std::uint64_t>(word_bits(tensor.codec));
}

std::uint64_t copy_bits(const FaultTensor& tensor) {
  return (tensor.elements - tensor.originals) * static_cast<std::uint64_t>(word_bits(tensor.codec));
}

/// floor of the double product, as the seed tool computes it.
std::uint64_t floor_count(double ber, const FaultTensor& tensor) {
  return static_cast<std::uint64_t>(std::floor(ber * static_cast<double>(tensor_bits(tensor))));
}

/// The hits of `n` independent trials with probability `p`, ascending: the gaps between hits are
/// geometric, so only the hits cost time.
Bits bernoulli_hits(Rng& rng, double p, std::uint64_t n) {
  Bits hits;
  if (p == 0) return hits;
  const double log_miss = portable_log1p(-p);  // -inf for p = 1: every gap is 0
  std::uint64_t next = 0;
  while (true) {
    const double gap = std::floor(portable_log(rng.uniform_positive()) / log_miss);
    // Compared before conversion: for small p a gap may exceed every integer type.
    if (gap >= static_cast<double>(n - next)) return hits;
    next += static_cast<std::uint64_t>(gap);
    hits.push_back(next++);
  }
}

/// `count` distinct numbers below n, uniform over all subsets (Floyd's algorithm; Bentley,
/// "Programming Pearls", CACM 1987). Unsorted.
Bits distinct_below(Rng& rng, std::uint64_t count, std::uint64_t n) {
  Bits chosen;
  std::unordered_set<std::uint64_t> seen;
  for (std::uint64_t last = n - count; last < n; ++last) {
    const std::uint64_t candidate = rng.below(last + 1);
    const std::uint64_t taken = seen.count(candidate) ? last : candidate;
    seen.insert(taken);
    chosen.push_back(taken);
  }
  return chosen;
}

const FaultTensor& tensor_of(const ChannelFaults& sampler, const FaultSpace& space) {
  for (const FaultTensor& tensor : space.tensors())
    if (tensor.name == sampler.layer + ".weight") return tensor;
  throw UserError("the network has no layer '" + sampler.layer + "' whose weights may be hit");
}

Bits draw_bits(const BinomialFaults& sampler, const FaultSpace& space, const RngKey& key) {
  check_ber(sampler.ber);
  Rng rng(key);
  return bernoulli_hits(rng, sampler.ber, space.bits());
}

Bits draw_bits(const PerLayerFloorFaults& sampler, const FaultSpace& space, const RngKey& key) {
  check_ber(sampler.ber);
  Rng rng(key);
  Bits bits;
  for (const FaultTensor& tensor : space.tensors())
    for (const std::uint64_t bit :
         distinct_below(rng, floor_count(sampler.ber, tensor), tensor_bits(tensor)))
      bits.push_back(tensor.first_bit + bit);
  return bits;
}

void check_count(const ExactFaults& sampler, const FaultSpace& space) {
  if (sampler.count > space.bits())
    throw UserError("--fault-count exact:" + std::to_string(sampler.count) +
                    " asks for more faults than the model has bits (" +
                    std::to_string(space.bits()) + ")");
}

Bits draw_bits(const ExactFaults& sampler, const FaultSpace& space, const RngKey& key) {
  check_count(sampler, space);
  Rng rng(key);
  return distinct_below(rng, sampler.count, space.bits());
}

Bits draw_bits(const ChannelFaults& sampler, const FaultSpace& space, const RngKey& key) {
  return {ChannelOrder(sampler, space, key).at(key.trial)};
}

/// Binomial faults on the copies alone, their bits numbered in tensor order.
Faults draw_copies(const BinomialFaults& sampler, const FaultSpace& space, const RngKey& key) {
  std::uint64_t total = 0;
  for (const FaultTensor& tensor : space.tensors()) total += copy_bits(tensor);
  Rng rng(key);
  Faults faults;
  std::size_t tensor = 0;
  std::uint64_t first = 0;  // number of the first copy bit of `tensor`
  for (const std::uint64_t bit : bernoulli_hits(rng, sampler.ber, total)) {
    while (bit - first >= copy_bits(space.tensors()[tensor]))
      first += copy_bits(space.tensors()[tensor++]);
    const FaultTensor& hit = space.tensors()[tensor];
    const auto skipped = hit.originals * static_cast<std::uint64_t>(word_bits(hit.codec));
    faults.push_back(space.at(hit.first_bit + skipped + (bit - first)));
  }
  return faults;
}

std::uint64_t parse_exact(const std::string& text) {
  const std::string prefix = "exact:";
  std::uint64_t count = 0;
  const char* begin = text.data() + std::min(prefix.size(), text.size());
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(begin, end, count);
  if (text.rfind(prefix, 0) != 0 || error != std::errc() || stop != end || count == 0)
    throw UserError(
        "--fault-count must be binomial, per-layer-floor or exact:K with K >= 1, not '" + text +
        "'");
  return count;
}

struct Name {
  std::string operator()(const BinomialFaults&) const { return "binomial"; }
  std::string operator()(const PerLayerFloorFaults&) const { return "per-layer-floor"; }
  std::string operator()(const ExactFaults& s) const { return "exact:" + std::to_string(s.count); }
  std::string operator()(const ChannelFaults& s) const {
    return "channel:" + s.layer + ":" + std::to_string(s.channel);
  }
};

struct Ber {
  double operator()(const BinomialFaults& s) const { return s.ber; }
  double operator()(const PerLayerFloorFaults& s) const { return s.ber; }
  double operator()(const ExactFaults&) const { return 0; }
  double operator()(const ChannelFaults&) const { return 0; }
};

struct Expected {
  const FaultTensor& tensor;
  const FaultSpace& space;
  double operator()(const BinomialFaults& s) const {
    return s.ber * static_cast<double>(tensor_bits(tensor));
  }
  double operator()(const PerLayerFloorFaults& s) const {
    return static_cast<double>(floor_count(s.ber, tensor));
  }
  double operator()(const ExactFaults& s) const {
    return static_cast<double>(s.count) * static_cast<double>(tensor_bits(tensor)) /
           static_cast<double>(space.bits());
  }
  double operator()(const ChannelFaults& s) const {
    return &tensor == &tensor_of(s, space) ? 1 : 0;
  }
};

}  // namespace

Sampler parse_sampler(const std::string& fault_count, double ber) {
  check_ber(ber);
  if (fault_count == "binomial") return BinomialFaults{ber};
  if (fault_count == "per-layer-floor") return PerLayerFloorFaults{ber};
  return ExactFaults{parse_exact(fault_count)};
}

std::string sampler_name(const Sampler& sampler) {
  return std::visit(Name{}, sampler);
}

double sampler_ber(const Sampler& sampler) {
  return std::visit(Ber{}, sampler);
}

Faults draw(const Sampler& sampler, const FaultSpace& space, const RngKey& key) {
  Bits bits = std::visit([&](const auto& s) { return draw_bits(s, space, key); }, sampler);
  std::sort(bits.begin(), bits.end());
  Faults faults;
  faults.reserve(bits.size());
  for (const std::uint64_t bit : bits) faults.push_back(space.at(bit));
  return faults;
}

ChannelOrder::ChannelOrder(const ChannelFaults& sampler, const FaultSpace& space, const RngKey& key)
    : rng_({key.seed, key.point, 0, Purpose::kChannelSites}) {
  const FaultTensor& tensor = tensor_of(sampler, space);
  const auto channel = static_cast<std::uint64_t>(sampler.channel);
  if (channel >= tensor.originals / tensor.row)
    throw UserError("layer " + sampler.layer + " has no channel " +
                    std::to_string(sampler.channel));
  const auto width = static_cast<std::uint64_t>(word_bits(tensor.codec));
  bits_ = tensor.row * width;
  first_ = tensor.first_bit + channel * bits_;
}

std::uint64_t ChannelOrder::at(std::uint64_t trial) {
  if (trial >= bits_) throw Bug("a channel has fewer bits than trials");
  const auto held = [this](std::uint64_t place) {
    const auto moved = moved_.find(place);
    return moved == moved_.end() ? place : moved->second;
  };
  while (drawn_.size() <= trial) {
    const std::uint64_t place = drawn_.size(), other = place + rng_.below(bits_ - place);
    drawn_.push_back(held(other));
    moved_[other] = held(place);
    moved_.erase(place);
  }
  return first_ + drawn_[trial];
}

Faults draw_paired(const BinomialFaults& sampler, const Faults& in_original, const SiteMap& map,
                   const FaultSpace& model, RngKey key) {
  Faults faults = map.translate(in_original);
  key.purpose = Purpose::kCopyFaults;
  const Faults copies = draw_copies(sampler, model, key);
  faults.insert(faults.end(), copies.begin(), copies.end());
  std::sort(faults.begin(), faults.end());
  return faults;
}

std::vector<double> expected_faults(const Sampler& sampler, const FaultSpace& space) {
  if (const auto* exact = std::get_if<ExactFaults>(&sampler)) check_count(*exact, space);
  std::vector<double> expected;
  for (const FaultTensor& tensor : space.tensors())
    expected.push_back(std::visit(Expected{tensor, space}, sampler));
  return expected;
}

}  // namespace sentinel
