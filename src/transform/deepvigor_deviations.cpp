#include "transform/deepvigor_deviations.hpp"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <mutex>

#include "sentinel/graph/rules.hpp"

namespace sentinel {
namespace {

constexpr double kOfNaN = 1e4;  // what a deviation that is NaN counts as
constexpr int kBits = 32;

/// Everything that one weight of a filter is multiplied with, sorted; NaN and zeros only counted.
struct MetValues {
  std::vector<float> negative, positive;
  std::uint64_t zeros = 0, nans = 0;

  void add(float x) {
    if (x > 0)
      positive.push_back(x);
    else if (x < 0)
      negative.push_back(x);
    else
      ++(std::isnan(x) ? nans : zeros);
  }
};

/// What weight `element` [in/groups, kh, kw] of every filter of a group meets.
MetValues values_met(const FiltersAtWork& filters, std::int64_t group, std::int64_t element,
                     const std::vector<std::int64_t>& positions) {
  const Conv& conv = filters.conv;
  const at::Tensor& input = filters.input;
  const std::int64_t height = input.size(2), width = input.size(3), plane = height * width;
  const std::int64_t area = conv.weight.size(2) * conv.weight.size(3);
  const std::int64_t channel = group * conv.weight.size(1) + element / area;
  const std::int64_t down = element % area / conv.weight.size(3) * conv.dilation[0];
  const std::int64_t right = element % conv.weight.size(3) * conv.dilation[1];
  MetValues met;
  for (const std::int64_t position : positions) {
    const std::int64_t y = position / filters.output[1] * conv.stride[0] - conv.padding[0] + down;
    const std::int64_t x = position % filters.output[1] * conv.stride[1] - conv.padding[1] + right;
    if (y < 0 || y >= height || x < 0 || x >= width) {
      met.zeros += static_cast<std::uint64_t>(input.size(0));
      continue;
    }
    const float* value = input.data_ptr<float>() + channel * plane + y * width + x;
    for (std::int64_t n = 0; n < input.size(0); ++n) met.add(value[n * input.size(1) * plane]);
  }
  std::sort(met.negative.begin(), met.negative.end());
  std::sort(met.positive.begin(), met.positive.end());
  return met;
}

/// Counts change * x for sorted x of one sign. Rounding keeps order, so that the products' entries
/// are in order too and a run of equal ones is found by bisection.
void count_sorted(double change, const std::vector<float>& values, DeviationCounts& counts) {
  const auto bin_of = [change](float x) { return deviation_bin(change * x); };
  auto begin = values.begin();
  while (begin != values.end()) {
    const std::size_t bin = bin_of(*begin);
    const auto end =
        bin_of(values.back()) == bin
            ? values.end()
            : std::partition_point(begin, values.end(), [&](float x) { return bin_of(x) == bin; });
    counts[bin] += static_cast<std::uint64_t>(end - begin);
    begin = end;
  }
}

void count_change(double change, const MetValues& met, DeviationCounts& counts) {
  counts[deviation_bin(change * 0.0)] += met.zeros;
  counts[deviation_bin(kOfNaN)] += met.nans;
  count_sorted(change, met.negative, counts);
  count_sorted(change, met.positive, counts);
}

/// A row of a weight as the network reads it.
class Row {
 public:
  Row(const Conv& conv, std::int64_t row)
      : words_(conv.weight.data_ptr<float>() + row * conv.weight.stride(0)),
        bounded_(conv.bounds.low.defined()) {
    if (!bounded_) return;
    low_ = bound(conv.bounds.low, row);
    high_ = bound(conv.bounds.high, row);
  }
  /// How the value read changes when a bit of the stored word flips.
  double change(std::int64_t element, int bit) const {
    std::uint32_t word = 0;
    std::memcpy(&word, words_ + element, sizeof word);
    word ^= 1U << bit;
    float flipped = 0;
    std::memcpy(&flipped, &word, sizeof word);
    return read(flipped) - read(words_[element]);
  }

 private:
  static float bound(const at::Tensor& bounds, std::int64_t row) {
    return (bounds.dim() == 0 ? bounds : bounds[row]).item<float>();
  }
  double read(float stored) const {
    return bounded_ ? rules::read_weight(stored, low_, high_) : stored;
  }
  const float* words_;
  bool bounded_;
  float low_ = 0, high_ = 0;
};

/// Channels begin … end-1, which are of one group.
void count_group(const FiltersAtWork& filters, std::int64_t begin, std::int64_t end,
                 const std::vector<std::int64_t>& positions, DeviationCounts* counts) {
  const std::int64_t group = begin / (filters.channels / filters.conv.groups);
  std::vector<Row> rows;
  for (std::int64_t c = begin; c < end; ++c) rows.emplace_back(filters.conv, c);
  std::mutex merging;
  at::parallel_for(0, filters.conv.weight[0].numel(), 16,
                   [&](std::int64_t first, std::int64_t last) {
                     std::vector<DeviationCounts> own(rows.size(), DeviationCounts{});
                     for (std::int64_t element = first; element < last; ++element) {
                       const MetValues met = values_met(filters, group, element, positions);
                       for (std::size_t c = 0; c < rows.size(); ++c)
                         for (int bit = 0; bit < kBits; ++bit)
                           count_change(rows[c].change(element, bit), met, own[c]);
                     }
                     const std::lock_guard lock(merging);
                     for (std::size_t c = 0; c < rows.size(); ++c)
                       for (std::size_t bin = 0; bin < own[c].size(); ++bin)
                         counts[c][bin] += own[c][bin];
                   });
}

}  // namespace

double grid_value(std::size_t index) {
  const auto exponent = [](std::size_t steps) { return static_cast<int>(steps) - 11; };
  if (index == kGridZero) return 0;
  return index > kGridZero ? std::ldexp(1.0, exponent(index - kGridZero))
                           : -std::ldexp(1.0, exponent(kGridZero - index));
}

std::size_t deviation_bin(double deviation) {
  constexpr std::int64_t kBelow = 1023 - 11;  // the biased exponent just below the grid's smallest
  if (deviation == 0) return kGridZero + 1;
  if (std::isnan(deviation)) deviation = kOfNaN;
  const double magnitude = std::fabs(deviation);
  std::int64_t word = 0;
  std::memcpy(&word, &magnitude, sizeof word);
  // A power of two is not below itself: on the negative side it belongs to the entry of the
  // smaller magnitudes.
  if (deviation < 0) --word;
  const std::int64_t steps =
      std::clamp<std::int64_t>((word >> 52) - kBelow, 0, static_cast<std::int64_t>(kGridSide));
  const auto count = static_cast<std::size_t>(steps);
  return deviation < 0 ? kGridZero - count : kGridZero + 1 + count;
}

std::array<double, kGridSize> shares_below(const DeviationCounts& counts) {
  std::uint64_t total = 0, below = 0;
  for (const std::uint64_t count : counts) total += count;
  std::array<double, kGridSize> shares{};
  for (std::size_t i = 0; i < kGridSize; ++i) {
    below += counts[i];
    shares[i] = static_cast<double>(below) / static_cast<double>(total);
  }
  return shares;
}

std::vector<std::int64_t> random_positions(std::int64_t positions, const RngKey& key) {
  std::size_t wanted = 0;
  while (positions >> (wanted + 1) > 0) ++wanted;
  wanted = std::max<std::size_t>(wanted, 1);
  Rng rng(key);
  std::vector<std::int64_t> drawn;
  while (drawn.size() < wanted) {
    const auto position =
        static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(positions)));
    if (std::find(drawn.begin(), drawn.end(), position) == drawn.end()) drawn.push_back(position);
  }
  return drawn;
}

std::vector<DeviationCounts> count_deviations(const FiltersAtWork& filters, std::int64_t begin,
                                              std::int64_t end,
                                              const std::vector<std::int64_t>& positions) {
  std::vector<DeviationCounts> counts(static_cast<std::size_t>(end - begin), DeviationCounts{});
  const std::int64_t width = filters.channels / filters.conv.groups;
  for (std::int64_t first = begin; first < end;) {
    const std::int64_t last = std::min(end, (first / width + 1) * width);
    count_group(filters, first, last, positions, counts.data() + (first - begin));
    first = last;
  }
  return counts;
}

}  // namespace sentinel
