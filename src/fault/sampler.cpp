#include "sentinel/fault/sampler.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <unordered_set>

#include "sentinel/core/error.hpp"
#include "sentinel/core/portable_math.hpp"
#include "sentinel/core/setting.hpp"

namespace sentinel {
namespace {

using Bits = std::vector<std::uint64_t>;  // bit numbers

void check_ber(double ber) {
  if (!(ber >= 0 && ber <= 1))
    throw UserError(spelled(Setting::kBer) + " must lie between 0 and 1, not " +
                    std::to_string(ber));
}

/// floor of the double product, as the seed tool computes it.
std::uint64_t floor_count(double ber, const FaultTensor& tensor) {
  return static_cast<std::uint64_t>(std::floor(ber * static_cast<double>(tensor.sites())));
}

/// The hits of `n` independent trials with probability `p`, ascending: the gaps between hits are
/// geometric, so only the hits cost time.
Bits bernoulli_hits(Rng& rng, double p, std::uint64_t n) {
  Bits hits;
  if (p == 0) return hits;
  const double log_miss = portable_log1p(-p);  // -inf for p = 1: every gap is 0
  std::uint64_t next = 0;
  while (true) {
    const double gap = portable_log(rng.uniform_positive()) / log_miss;
    // Compared before conversion, which rounds down: for small p a gap may exceed every integer
    // type.
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
  return bernoulli_hits(rng, sampler.ber, space.sites());
}

Bits draw_bits(const PerLayerFloorFaults& sampler, const FaultSpace& space, const RngKey& key) {
  check_ber(sampler.ber);
  Rng rng(key);
  Bits bits;
  for (const FaultTensor& tensor : space.tensors())
    for (const std::uint64_t bit :
         distinct_below(rng, floor_count(sampler.ber, tensor), tensor.sites()))
      bits.push_back(tensor.first_site + bit);
  return bits;
}

void check_count(const ExactFaults& sampler, const FaultSpace& space) {
  if (space.sites() == 0)
    throw UserError(spelled(Setting::kFaultCount) + " exact:" + std::to_string(sampler.count) +
                    " asks for faults, and a network of the campaign has nothing that may fail");
  if (sampler.count > space.sites())
    throw UserError(spelled(Setting::kFaultCount) + " exact:" + std::to_string(sampler.count) +
                    " asks for more faults than the model has " +
                    (space.of_words() ? "words" : "bits") + " (" + std::to_string(space.sites()) +
                    ")");
}

Bits draw_bits(const ExactFaults& sampler, const FaultSpace& space, const RngKey& key) {
  check_count(sampler, space);
  Rng rng(key);
  return distinct_below(rng, sampler.count, space.sites());
}

Bits draw_bits(const ChannelFaults& sampler, const FaultSpace& space, const RngKey& key) {
  return {ChannelOrder(sampler, space, key).at(key.trial)};
}

Bits draw_bits(const ListedFaults&, const FaultSpace&, const RngKey&) {
  throw Bug("faults of a list are not drawn");
}

/// From the stream of this very key.
void give_effects_from(const FaultModel& model, Faults& faults, const RngKey& key) {
  if (model.effect == Effect::kFlip && model.of_bits()) return;
  Rng rng(key);
  for (FaultSite& site : faults) {
    site.effect = model.effect;
    if (model.effect == Effect::kValue) site.operand = operand_of(model);
    if (model.effect == Effect::kRandomWord) site.operand = rng.bits64();
    if (model.of_words()) continue;
    std::size_t length = model.lengths.size();
    if (model.lengths.back() < 1) {
      double left = rng.uniform();
      for (length = 1; length < model.lengths.size() && left >= model.lengths[length - 1]; ++length)
        left -= model.lengths[length - 1];
    }
    site.length = static_cast<std::uint8_t>(length);
  }
}

/// Numbers of sites of a space, joined as one range.
class Sites {
 public:
  void add(std::uint64_t first, std::uint64_t count) {
    if (count == 0) return;
    parts_.push_back({first, total_});
    total_ += count;
  }
  std::uint64_t total() const { return total_; }
  /// Numbers in the space of ascending numbers in the range.
  Faults at(const FaultSpace& space, const Bits& numbers) const {
    Faults faults;
    std::size_t part = 0;
    for (const std::uint64_t number : numbers) {
      while (part + 1 < parts_.size() && parts_[part + 1].before <= number) ++part;
      faults.push_back(space.at(parts_[part].first + number - parts_[part].before));
    }
    return faults;
  }

 private:
  struct Part {
    std::uint64_t first, before;
  };
  std::vector<Part> parts_;
  std::uint64_t total_ = 0;
};

/// The sites of copies of duplicated channels in a tensor.
void add_copies(const FaultTensor& tensor, Sites& sites) {
  std::uint64_t before = 0;  // selected elements before the range
  for (const NumberRange& range : tensor.ranges) {
    const std::uint64_t begin = std::clamp(tensor.originals, range.begin, range.end);
    sites.add(tensor.first_site + (before + begin - range.begin) * tensor.bits.size(),
              (range.end - begin) * tensor.bits.size());
    before += range.end - range.begin;
  }
}

Faults draw_on(const Sites& sites, const BinomialFaults& sampler, const FaultModel& model,
               const FaultSpace& space, RngKey key, Purpose effects) {
  Rng rng(key);
  Faults faults = sites.at(space, bernoulli_hits(rng, sampler.ber, sites.total()));
  key.purpose = effects;
  give_effects_from(model, faults, key);
  return faults;
}

std::uint64_t parse_exact(const std::string& text) {
  const std::string prefix = "exact:";
  std::uint64_t count = 0;
  const char* begin = text.data() + std::min(prefix.size(), text.size());
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(begin, end, count);
  if (text.rfind(prefix, 0) != 0 || error != std::errc() || stop != end || count == 0)
    throw UserError(spelled(Setting::kFaultCount) +
                    " must be binomial, per-layer-floor or exact:K with K >= 1, not '" + text +
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
  std::string operator()(const ListedFaults&) const { return "listed"; }
};

struct Ber {
  double operator()(const BinomialFaults& s) const { return s.ber; }
  double operator()(const PerLayerFloorFaults& s) const { return s.ber; }
  double operator()(const ExactFaults&) const { return 0; }
  double operator()(const ChannelFaults&) const { return 0; }
  double operator()(const ListedFaults&) const { return 0; }
};

struct Expected {
  const FaultTensor& tensor;
  const FaultSpace& space;
  double operator()(const BinomialFaults& s) const {
    return s.ber * static_cast<double>(tensor.sites());
  }
  double operator()(const PerLayerFloorFaults& s) const {
    return static_cast<double>(floor_count(s.ber, tensor));
  }
  double operator()(const ExactFaults& s) const {
    return static_cast<double>(s.count) * static_cast<double>(tensor.sites()) /
           static_cast<double>(space.sites());
  }
  double operator()(const ChannelFaults& s) const {
    return &tensor == &tensor_of(s, space) ? 1 : 0;
  }
  double operator()(const ListedFaults& s) const {
    return static_cast<double>(s.list->faults_in(tensor.name)) /
           static_cast<double>(s.list->trials());
  }
};

}  // namespace

FaultCount parse_fault_count(const std::string& word) {
  for (const auto kind : {FaultCount::Kind::kBinomial, FaultCount::Kind::kPerLayerFloor})
    if (word == fault_count_name({kind})) return {kind};
  return {FaultCount::Kind::kExact, parse_exact(word)};
}

std::string fault_count_name(const FaultCount& count) {
  return sampler_name(sampler_of(count, 0));
}

Sampler sampler_of(const FaultCount& count, double ber) {
  check_ber(ber);
  switch (count.kind) {
    case FaultCount::Kind::kBinomial:
      return BinomialFaults{ber};
    case FaultCount::Kind::kPerLayerFloor:
      return PerLayerFloorFaults{ber};
    case FaultCount::Kind::kExact:
      return ExactFaults{count.exact};
  }
  throw Bug("unknown number of faults");
}

std::string sampler_name(const Sampler& sampler) {
  return std::visit(Name{}, sampler);
}

double sampler_ber(const Sampler& sampler) {
  return std::visit(Ber{}, sampler);
}

Faults draw(const Sampler& sampler, const FaultSpace& space, const RngKey& key) {
  Bits bits = std::visit([&](const auto& s) { return draw_bits(s, space, key); }, sampler);
  if (!std::is_sorted(bits.begin(), bits.end())) std::sort(bits.begin(), bits.end());
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
  bits_ = tensor.row * tensor.bits.size();
  first_ = tensor.first_site + channel * bits_;
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

Faults draw_paired(const BinomialFaults& sampler, const FaultModel& faults,
                   const Faults& in_original, const SiteMap& map, const FaultSpace& model,
                   RngKey key) {
  Faults all = map.translate(in_original);
  Sites copies;
  std::map<std::string, Sites> others;  // by layout
  for (std::size_t t = 0; t < model.tensors().size(); ++t) {
    const FaultTensor& tensor = model.tensors()[t];
    if (map.shared(t))
      add_copies(tensor, copies);
    else
      others[layout_name(tensor.layout)].add(tensor.first_site, tensor.sites());
  }
  const auto append = [&](const Faults& own) { all.insert(all.end(), own.begin(), own.end()); };
  key.purpose = Purpose::kCopyFaults;
  append(draw_on(copies, sampler, faults, model, key, Purpose::kCopyEffects));
  for (const auto& [layout, sites] : others) {
    RngKey own = key;
    own.seed ^= seed_of(layout);
    own.purpose = Purpose::kLayoutFaults;
    append(draw_on(sites, sampler, faults, model, own, Purpose::kLayoutEffects));
  }
  std::sort(all.begin(), all.end());
  return all;
}

void give_effects(const FaultModel& model, Faults& faults, RngKey key) {
  key.purpose = Purpose::kFaultEffects;
  give_effects_from(model, faults, key);
}

std::vector<double> expected_faults(const Sampler& sampler, const FaultSpace& space) {
  if (const auto* exact = std::get_if<ExactFaults>(&sampler)) check_count(*exact, space);
  std::vector<double> expected;
  for (const FaultTensor& tensor : space.tensors())
    expected.push_back(std::visit(Expected{tensor, space}, sampler));
  return expected;
}

}  // namespace sentinel
