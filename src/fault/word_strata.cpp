#include "fault/word_strata.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace sentinel {
namespace {

constexpr double kTail = 0.01;  // share of the trials that may be pooled
constexpr std::size_t kMostCounts = 34;
constexpr double kMostExpected = 60;  // words read wrongly: far more than kMostCounts tell apart
constexpr std::uint64_t kMostWrong = 256;  // P(K > 256) < 1e-60 then
constexpr double kMostOfWord = 0.5;        // P(a word is read wrongly)

/// P(k)/P(0) of n trials with probability p, k = 0 ... kMostWrong.
std::vector<double> relative_binomial(std::uint64_t n, double p) {
  std::vector<double> all = {1};
  for (std::uint64_t k = 0; k < std::min(n, kMostWrong); ++k)
    all.push_back(all.back() * static_cast<double>(n - k) / static_cast<double>(k + 1) * p /
                  (1 - p));
  return all;
}

/// Of the sum of two numbers.
std::vector<double> convolved(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> sums(std::min<std::size_t>(a.size() + b.size() - 1, kMostWrong + 1));
  for (std::size_t i = 0; i < a.size(); ++i)
    for (std::size_t j = 0; j < b.size() && i + j < sums.size(); ++j) sums[i + j] += a[i] * b[j];
  return sums;
}

/// An index in proportion to its weight.
std::size_t pick(const std::vector<double>& weights, Rng& rng) {
  double left = rng.uniform() * std::accumulate(weights.begin(), weights.end(), 0.0);
  std::size_t last = 0;  // of positive weight, where rounding leaves something
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] == 0) continue;
    if (left < weights[i]) return i;
    left -= weights[i];
    last = i;
  }
  return last;
}

/// `count` of the numbers below n, each set as likely.
std::vector<std::uint64_t> distinct(std::uint64_t count, std::uint64_t n, Rng& rng) {
  std::vector<std::uint64_t> chosen;
  while (chosen.size() < count) {
    const std::uint64_t number = rng.below(n);
    if (std::find(chosen.begin(), chosen.end(), number) == chosen.end()) chosen.push_back(number);
  }
  return chosen;
}

/// P(K = k) from P(k)/P(0), until P(K > k) < kTail, and that; the exact sums of what is left, as
/// differences to 1 would cancel.
std::vector<double> pooled(const std::vector<double>& relative, double none) {
  std::vector<double> at_least(relative.size() + 1);
  for (std::size_t k = relative.size(); k-- > 0;)
    at_least[k] = at_least[k + 1] + none * relative[k];
  std::vector<double> counts;
  for (std::size_t k = 0; k < relative.size(); ++k) {
    counts.push_back(none * relative[k]);
    if (at_least[k + 1] >= kTail) continue;
    counts.push_back(at_least[k + 1]);
    break;
  }
  return counts;
}

}  // namespace

/// Its tensors; false where some are not told by Misreads.
bool WordStrata::add(const FaultSpace& space) {
  std::vector<const Layout*> layouts;  // of the kinds
  for (const FaultTensor& tensor : space.tensors()) {
    if (tensor.kind == TensorClass::kCheck ||
        tensor.bits.size() != static_cast<std::size_t>(tensor.word_bits))
      return false;
    const auto known = std::find_if(layouts.begin(), layouts.end(),
                                    [&](const Layout* layout) { return *layout == tensor.layout; });
    const auto kind = static_cast<std::size_t>(known - layouts.begin());
    if (known == layouts.end()) {
      const auto misreads = Misreads::of(tensor.layout);
      if (!misreads) return false;
      layouts.push_back(&tensor.layout);
      kinds_.push_back({*misreads});
    }
    kind_of_.push_back(kind);
    first_word_.push_back(kinds_[kind].words);
    copies_.push_back(static_cast<std::uint64_t>(block_shape(tensor.layout).copies));
    kinds_[kind].words += tensor.selected / copies_.back();
  }
  return !kinds_.empty();
}

std::optional<WordStrata> WordStrata::of(const FaultSpace& space, double ber) {
  WordStrata strata;
  strata.ber_ = ber;
  if (!strata.add(space)) return std::nullopt;
  double expected = 0, log_none = 0;
  for (Kind& kind : strata.kinds_) {
    const double wrong = kind.misreads.of_word(ber), words = static_cast<double>(kind.words);
    expected += words * wrong;
    if (wrong > kMostOfWord || expected > kMostExpected) return std::nullopt;
    log_none += words * std::log1p(-wrong);
    kind.counts = relative_binomial(kind.words, wrong);
  }
  strata.sums_.resize(strata.kinds_.size());
  std::vector<double> sum = {1};
  for (std::size_t k = strata.kinds_.size(); k-- > 0;)
    strata.sums_[k] = sum = convolved(strata.kinds_[k].counts, sum);
  strata.counts_ = pooled(sum, std::exp(log_none));
  if (strata.counts_.size() > kMostCounts) return std::nullopt;
  return strata;
}

WordStrata::Place WordStrata::word(const FaultSpace& space, std::size_t kind,
                                   std::uint64_t number) const {
  std::size_t tensor = 0;
  for (std::size_t t = 0; t < kind_of_.size(); ++t)
    if (kind_of_[t] == kind && first_word_[t] <= number) tensor = t;
  const FaultTensor& own = space.tensors()[tensor];
  const std::uint64_t before = (number - first_word_[tensor]) * copies_[tensor];
  const FaultSite first = space.at(own.first_site + before * own.bits.size());
  return {first.tensor, first.element / copies_[tensor]};
}

/// Ascending.
std::vector<WordStrata::Place> WordStrata::wrong_words(const FaultSpace& space, std::uint64_t count,
                                                       Rng& rng) const {
  std::vector<Place> words;
  for (std::size_t kind = 0; kind < kinds_.size(); ++kind) {
    std::uint64_t own = count;
    if (kind + 1 < kinds_.size()) {
      std::vector<double> weights;  // by k of this kind, where the later ones have the others
      for (std::size_t k = 0; k <= count; ++k) {
        const bool some = k < kinds_[kind].counts.size() && count - k < sums_[kind + 1].size();
        weights.push_back(some ? kinds_[kind].counts[k] * sums_[kind + 1][count - k] : 0);
      }
      own = pick(weights, rng);
    }
    for (const std::uint64_t number : distinct(own, kinds_[kind].words, rng))
      words.push_back(word(space, kind, number));
    count -= own;
  }
  std::sort(words.begin(), words.end());
  return words;
}

Word WordStrata::any_flips(int bits, Rng& rng) const {
  Word flips = 0;
  for (int bit = 0; bit < bits; ++bit) flips |= Word{rng.uniform() < ber_} << bit;
  return flips;
}

/// How many bits flip by the law given that the part is read wrongly; then which ones.
Word WordStrata::wrong_flips(const Misreads& misreads, Rng& rng) const {
  std::vector<double> weights(misreads.wrong());
  double odds = 1;
  bool any = false;  // relative to the fewest flips that may be wrong
  for (double& weight : weights) {
    any = any || weight > 0;
    weight *= odds;
    if (any) odds *= ber_ / (1 - ber_);
  }
  const std::size_t count = pick(weights, rng);
  while (true) {
    Word flips = 0;
    for (const std::uint64_t bit :
         distinct(count, static_cast<std::uint64_t>(misreads.bits()), rng))
      flips |= Word{1} << bit;
    if (misreads.is_wrong(flips)) return flips;
  }
}

Word WordStrata::right_flips(const Misreads& misreads, Word flips, Rng& rng) const {
  while (misreads.is_wrong(flips)) flips = any_flips(misreads.bits(), rng);
  return flips;
}

/// One part at least is wrong.
WordStrata::Parts WordStrata::wrong_parts(const Misreads& misreads, Rng& rng) const {
  const auto count = static_cast<std::uint64_t>(misreads.parts());
  std::vector<double> weights = relative_binomial(count, misreads.of_part(ber_));
  weights[0] = 0;
  std::vector<bool> wrong(count);
  for (const std::uint64_t part : distinct(pick(weights, rng), count, rng)) wrong[part] = true;
  Parts parts;
  for (const bool own : wrong)
    parts.push_back(own ? wrong_flips(misreads, rng)
                        : right_flips(misreads, any_flips(misreads.bits(), rng), rng));
  return parts;
}

namespace {

/// The stored words of a value: where a part's flips lie. Of a majority the parts are bits and
/// their flips copies.
struct WordSites {
  std::uint32_t tensor;
  std::uint64_t first;  // element of its first stored word
  bool by_bit;          // a part is a bit

  std::size_t part(const FaultSite& site) const { return by_bit ? site.bit : 0; }
  Word flip(const FaultSite& site) const {
    return Word{1} << (by_bit ? site.element - first : site.bit);
  }
  void append(const std::vector<Word>& parts, Faults& faults) const {
    const auto begin = static_cast<std::ptrdiff_t>(faults.size());
    for (std::size_t part = 0; part < parts.size(); ++part)
      for (Word left = parts[part]; left != 0; left &= left - 1) {
        const auto place = static_cast<std::uint64_t>(__builtin_ctzll(left));
        faults.push_back({tensor, first + (by_bit ? place : 0),
                          static_cast<std::uint8_t>(by_bit ? part : place)});
      }
    std::sort(faults.begin() + begin, faults.end());
  }
};

}  // namespace

/// The flips of a word that is to be read wrongly, or of one that has these and is not.
WordStrata::Parts WordStrata::parts_of(const Misreads& misreads, bool wrong, Parts parts,
                                       Rng& rng) const {
  if (wrong) return wrong_parts(misreads, rng);
  for (Word& flips : parts) flips = right_flips(misreads, flips, rng);
  return parts;
}

Faults WordStrata::draw(const FaultSpace& space, std::size_t count, const RngKey& key) const {
  Rng rng({key.seed, key.point, key.trial, Purpose::kCriticalFaults});
  std::uint64_t more = 0;
  if (count + 1 == counts_.size())
    more = pick({sums_[0].begin() + static_cast<std::ptrdiff_t>(count), sums_[0].end()}, rng);
  const std::vector<Place> wrong = wrong_words(space, count + more, rng);
  const Faults any = sentinel::draw(BinomialFaults{ber_}, space, key);
  const auto place_of = [&](const FaultSite& site) {
    return Place{site.tensor, site.element / copies_[site.tensor]};
  };
  Faults faults;
  auto chosen = wrong.begin();
  for (auto next = any.begin(); next != any.end() || chosen != wrong.end();) {
    Place place = next != any.end() ? place_of(*next) : *chosen;
    if (chosen != wrong.end()) place = std::min(place, *chosen);
    const Misreads& misreads = kinds_[kind_of_[place.tensor]].misreads;
    const WordSites sites{place.tensor, place.value * copies_[place.tensor], misreads.parts() > 1};
    Parts parts(static_cast<std::size_t>(misreads.parts()));
    for (; next != any.end() && place_of(*next) == place; ++next)
      parts[sites.part(*next)] |= sites.flip(*next);
    const bool is_chosen = chosen != wrong.end() && *chosen == place;
    if (is_chosen) ++chosen;
    sites.append(parts_of(misreads, is_chosen, std::move(parts), rng), faults);
  }
  return faults;
}

}  // namespace sentinel
