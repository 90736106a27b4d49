#include "fault/word_strata.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace sentinel {
namespace {

constexpr double kLeastShare = 0.01;       // of the trials that a class of K has
constexpr double kMostExpected = 30;       // units read wrongly: their number says little then
constexpr std::uint64_t kMostWrong = 256;  // P(K > 256) < 1e-100 then
constexpr double kMostOfWord = 0.5;        // P(a unit is read wrongly)
constexpr double kLeastCritical = 1e-4;  // P(K > 0) of critical bits: else the strata tell nothing

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

/// `count` of the numbers below n that are `allowed`, each set as likely.
template <class Allowed>
std::vector<std::uint64_t> distinct(std::uint64_t count, std::uint64_t n, Rng& rng,
                                    Allowed&& allowed) {
  std::vector<std::uint64_t> chosen;
  while (chosen.size() < count) {
    const std::uint64_t number = rng.below(n);
    if (allowed(number) && std::find(chosen.begin(), chosen.end(), number) == chosen.end())
      chosen.push_back(number);
  }
  return chosen;
}

std::vector<std::uint64_t> distinct(std::uint64_t count, std::uint64_t n, Rng& rng) {
  return distinct(count, n, rng, [](std::uint64_t) { return true; });
}

/// P(first <= K <= last) from P(k)/P(0).
double share_of(const std::vector<double>& relative, double none, std::size_t first,
                std::size_t last) {
  double share = 0;  // the smallest first; differences to 1 would cancel
  for (std::size_t k = last + 1; k-- > first;) share += none * relative[k];
  return share;
}

/// 0, 1, 2, 3-4, 5-8 and so on; those below kLeastShare are joined with the next, and the last of
/// all takes the rest. `zero_alone`: but for the first.
std::vector<WordStrata::Class> classes_of(const std::vector<double>& relative, double none,
                                          bool zero_alone) {
  const std::size_t most = relative.size() - 1;
  std::vector<WordStrata::Class> classes;
  for (std::size_t first = 0, last = 0; first <= most; first = last + 1) {
    const auto share = [&](std::size_t from, std::size_t to) {
      return share_of(relative, none, from, std::min(to, most));
    };
    last = first < 3 ? first : 2 * first - 2;
    while (last < most && share(first, last) < kLeastShare && !(first == 0 && zero_alone))
      last = last < 2 ? last + 1 : 2 * last;
    if (last > most || (first > 0 && share(last + 1, most) < kLeastShare)) last = most;
    double mean = 0;
    for (std::size_t k = first; k <= last; ++k)
      mean += static_cast<double>(k) * none * relative[k] / share(first, last);
    classes.push_back({first, last, share(first, last), mean});
  }
  return classes;
}

}  // namespace

std::optional<WordStrata> WordStrata::of(const Graph& graph, const FaultSpace& space, double ber) {
  auto units = WordUnits::all(space);
  // Flips of bare bits hardly ever matter: strata of their number would be many and much alike.
  if (units && !units->leave_bits_bare())
    if (auto strata = counted(std::move(units), true, ber)) return strata;
  return counted(WordUnits::critical(graph, space), false, ber);
}

std::optional<WordStrata> WordStrata::counted(std::optional<WordUnits> units, bool counts_all,
                                              double ber) {
  if (!units) return std::nullopt;
  WordStrata strata(std::move(*units), counts_all, ber);
  if (!strata.count()) return std::nullopt;
  return strata;
}

/// False where that says little of a trial.
bool WordStrata::count() {
  double expected = 0, log_none = 0;
  for (const WordUnits::Kind& kind : units_.kinds()) {
    const double wrong = kind.misreads.of_word(ber_), units = static_cast<double>(kind.units);
    expected += units * wrong;
    if (wrong > kMostOfWord || expected > kMostExpected) return false;
    log_none += units * std::log1p(-wrong);
    of_kind_.push_back(relative_binomial(kind.units, wrong));
  }
  const double any = -std::expm1(log_none);
  if (any == 0 || (!counts_all_ && any < kLeastCritical)) return false;
  sums_.resize(of_kind_.size());
  std::vector<double> sum = {1};
  for (std::size_t k = of_kind_.size(); k-- > 0;) sums_[k] = sum = convolved(of_kind_[k], sum);
  classes_ = classes_of(sum, std::exp(log_none), counts_all_);
  return true;
}

/// Ascending.
std::vector<std::uint64_t> WordStrata::wrong_units(std::uint64_t count, Rng& rng) const {
  std::vector<std::uint64_t> units;
  for (std::size_t kind = 0; kind < of_kind_.size(); ++kind) {
    std::uint64_t own = count;
    if (kind + 1 < of_kind_.size()) {
      std::vector<double> weights;  // by k of this kind, where the later ones have the others
      for (std::size_t k = 0; k <= count; ++k) {
        const bool some = k < of_kind_[kind].size() && count - k < sums_[kind + 1].size();
        weights.push_back(some ? of_kind_[kind][k] * sums_[kind + 1][count - k] : 0);
      }
      own = pick(weights, rng);
    }
    const auto may_be_wrong = [&](std::uint64_t number) {
      return units_.may_be_wrong(units_.unit(kind, number));
    };
    for (const std::uint64_t number : distinct(own, units_.kinds()[kind].all, rng, may_be_wrong))
      units.push_back(units_.unit(kind, number));
    count -= own;
  }
  std::sort(units.begin(), units.end());
  return units;
}

Flips WordStrata::any_flips(int bits, Rng& rng) const {
  Flips flips;
  for (int bit = 0; bit < bits; ++bit)
    if (rng.uniform() < ber_) flips.set(bit);
  return flips;
}

/// How many bits flip by the law given that the part is read wrongly; then which ones.
Flips WordStrata::wrong_flips(const Misreads& misreads, Rng& rng) const {
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
    Flips flips;
    for (const std::uint64_t bit :
         distinct(count, static_cast<std::uint64_t>(misreads.bits()), rng))
      flips.set(static_cast<int>(bit));
    if (misreads.is_wrong(flips)) return flips;
  }
}

Flips WordStrata::right_flips(const Misreads& misreads, Flips flips, Rng& rng) const {
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

/// The flips of a unit that is to be read wrongly, or of one that has these and is not.
WordStrata::Parts WordStrata::parts_of(const Misreads& misreads, bool wrong, Parts parts,
                                       Rng& rng) const {
  if (wrong) return wrong_parts(misreads, rng);
  for (Flips& flips : parts) flips = right_flips(misreads, flips, rng);
  return parts;
}

namespace {

struct Hit {
  std::uint64_t unit;
  FaultSite site;
};

/// Faults in units, by unit; the others go to `rest`.
std::vector<Hit> hits_of(const WordUnits& units, const Faults& faults, Faults& rest) {
  std::vector<Hit> hits;
  for (const FaultSite& site : faults) {
    const auto unit = units.unit_of(site);
    if (unit && units.may_be_wrong(*unit))
      hits.push_back({*unit, site});
    else
      rest.push_back(site);
  }
  // Check words lie behind all words.
  std::stable_sort(hits.begin(), hits.end(),
                   [](const Hit& a, const Hit& b) { return a.unit < b.unit; });
  return hits;
}

}  // namespace

Faults WordStrata::draw(const FaultSpace& space, const Class& own, const RngKey& key) const {
  Rng rng({key.seed, key.point, key.trial, Purpose::kCriticalFaults});
  const auto first = sums_[0].begin() + static_cast<std::ptrdiff_t>(own.first);
  const auto end = sums_[0].begin() + static_cast<std::ptrdiff_t>(own.last + 1);
  const std::uint64_t count = own.first + (own.last > own.first ? pick({first, end}, rng) : 0);
  const std::vector<std::uint64_t> wrong = wrong_units(count, rng);
  Faults faults;
  const std::vector<Hit> hits =
      hits_of(units_, sentinel::draw(BinomialFaults{ber_}, space, key), faults);
  auto chosen = wrong.begin();
  for (auto next = hits.begin(); next != hits.end() || chosen != wrong.end();) {
    std::uint64_t unit = next != hits.end() ? next->unit : *chosen;
    if (chosen != wrong.end()) unit = std::min(unit, *chosen);
    const Misreads& misreads = units_.kinds()[units_.kind_of(unit)].misreads;
    Parts parts(static_cast<std::size_t>(misreads.parts()));
    for (; next != hits.end() && next->unit == unit; ++next) {
      const auto [part, bit] = units_.part_bit(unit, next->site);
      if (part >= 0)
        parts[static_cast<std::size_t>(part)].set(bit);
      else
        faults.push_back(next->site);
    }
    const bool is_chosen = chosen != wrong.end() && *chosen == unit;
    if (is_chosen) ++chosen;
    parts = parts_of(misreads, is_chosen, std::move(parts), rng);
    for (int part = 0; part < misreads.parts(); ++part)
      parts[static_cast<std::size_t>(part)].each(
          [&](int bit) { faults.push_back(units_.site(unit, part, bit)); });
  }
  std::sort(faults.begin(), faults.end());
  return faults;
}

}  // namespace sentinel
