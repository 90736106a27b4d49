#include "transform/quantiles.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "sentinel/core/bytes.hpp"
#include "sentinel/core/error.hpp"
#include "transform/calibration_runs.hpp"

namespace sentinel {
namespace {

constexpr std::size_t kMostCounters = std::size_t{1} << 22;
constexpr unsigned kMostBits = 16;  // of a pass: counters that fit in caches
constexpr std::size_t kSummedAtOnce = std::size_t{1} << 16;  // counters, of every rank on rank 0

/// In the order of the values.
std::uint32_t ordered_word(float value) {
  std::uint32_t word;
  std::memcpy(&word, &value, sizeof word);
  return word ^ ((word >> 31) != 0 ? 0xFFFFFFFFU : 0x80000000U);
}

float value_of(std::uint32_t ordered) {
  const std::uint32_t word = ordered ^ ((ordered >> 31) != 0 ? 0x80000000U : 0xFFFFFFFFU);
  float value;
  std::memcpy(&value, &word, sizeof value);
  return value;
}

/// Of every rank together, on every rank.
void sum_over_ranks(std::vector<std::uint64_t>& counts, const Comm& comm) {
  if (comm.size() == 1) return;
  for (std::size_t begin = 0; begin < counts.size(); begin += kSummedAtOnce) {
    const std::size_t size = std::min(kSummedAtOnce, counts.size() - begin);
    const std::size_t bytes = size * sizeof counts[0];
    std::uint64_t* own = counts.data() + begin;
    ByteWriter writer;
    writer.append(own, bytes);
    const std::vector<Bytes> parts = comm.gather(writer.bytes());
    for (std::size_t rank = 1; rank < parts.size(); ++rank) {
      ByteReader reader(parts[rank], "counts");
      for (std::size_t i = 0; i < size; ++i) own[i] += reader.read<std::uint64_t>();
    }
    ByteWriter sum;
    sum.append(own, bytes);
    Bytes all = sum.take();
    comm.broadcast(all);
    std::memcpy(own, all.data(), bytes);
  }
}

/// An activation's place in the graph and among the units.
struct Place {
  std::size_t node = 0, first_unit = 0, units = 1;
};

std::vector<Place> places_of(const ActivationRanges& ranges, const Graph& graph, BoundsPer per) {
  std::vector<Place> places;
  std::size_t next = 0;
  for (const ActivationRanges::Site& site : ranges.activations) {
    const std::size_t units = per == BoundsPer::kLayer ? 1 : site.high.size();
    places.push_back({static_cast<std::size_t>(graph.find(site.name)), next, units});
    next += units;
  }
  return places;
}

void count(QuantileSearch& search, const Place& place, const at::Tensor& output) {
  const at::Tensor values = output.to(at::kCPU).contiguous();
  const auto images = values.size(0),
             of_unit = values.numel() / images / static_cast<std::int64_t>(place.units);
  const float* next = values.data_ptr<float>();
  for (std::int64_t image = 0; image < images; ++image)
    for (std::size_t unit = 0; unit < place.units; ++unit, next += of_unit)
      search.count(place.first_unit + unit, next, of_unit);
}

}  // namespace

QuantileSearch::QuantileSearch(std::size_t units, double share)
    : share_(share), known_(units), places_(units) {
  begin_pass();
}

void QuantileSearch::begin_pass() {
  bits_ = 1;
  while (bits_ < std::min(left_, kMostBits) && known_.size() << (bits_ + 1) <= kMostCounters)
    ++bits_;
  counts_.assign(known_.size() << bits_, 0);
}

void QuantileSearch::count(std::size_t unit, const float* values, std::int64_t n) {
  const unsigned shift = left_ - bits_;
  const std::uint64_t known = known_[unit], mask = (1U << bits_) - 1;
  std::uint64_t* counts = counts_.data() + (unit << bits_);
  for (std::int64_t i = 0; i < n; ++i) {
    const std::uint64_t word = ordered_word(values[i]);
    if (word >> left_ == known) ++counts[word >> shift & mask];
  }
}

void QuantileSearch::next() {
  const std::uint32_t last = (1U << bits_) - 1;
  for (std::size_t unit = 0; unit < known_.size(); ++unit) {
    const std::uint64_t* counts = counts_.data() + (unit << bits_);
    std::uint64_t& place = places_[unit];
    if (left_ == 32) {
      std::uint64_t all = 0;
      for (std::uint32_t digit = 0; digit <= last; ++digit) all += counts[digit];
      place = std::max<std::uint64_t>(
          1, static_cast<std::uint64_t>(std::ceil(static_cast<double>(all) * share_)));
    }
    std::uint32_t digit = 0;
    // Not beyond the last: on a GPU a later pass may see other last bits.
    for (; digit < last && counts[digit] < place; ++digit) place -= counts[digit];
    known_[unit] = known_[unit] << bits_ | digit;
  }
  left_ -= bits_;
  if (!done()) begin_pass();
}

float QuantileSearch::quantile(std::size_t unit) const {
  if (!done()) throw Bug("a quantile is asked for before the last pass");
  return value_of(known_.at(unit));
}

void cut_to_quantiles(ActivationRanges& ranges, const Graph& graph, double percentile,
                      BoundsPer per, const Dataset& images, const Comm& comm, at::Device device) {
  Graph local = graph.clone();
  local.to(device, at::MemoryFormat::ChannelsLast);
  const std::vector<Place> places = places_of(ranges, local, per);
  if (places.empty()) return;
  QuantileSearch search(places.back().first_unit + places.back().units, percentile / 100);
  while (!search.done()) {
    comm.agree([&] {
      for_own_blocks(local, images, comm, device, [&](const Trace& trace) {
        for (const Place& place : places) count(search, place, trace[place.node]);
      });
    });
    sum_over_ranks(search.counts(), comm);
    search.next();
  }
  for (std::size_t s = 0; s < places.size(); ++s) {
    std::vector<double>& high = ranges.activations[s].high;
    for (std::size_t c = 0; c < high.size(); ++c)
      high[c] = search.quantile(places[s].first_unit + c % places[s].units);
  }
}

}  // namespace sentinel
