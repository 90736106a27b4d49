#pragma once
#include <cstdint>
#include <vector>

#include "sentinel/transform/calibrate.hpp"

namespace sentinel {

/// The quantile of each of many units' values, exact, without keeping the values: passes over them
/// find it digit by digit, from the highest bits of the word on. It is the smallest value v of a
/// unit such that at least the given share of its values is <= v (numpy's "inverted_cdf", no
/// interpolation). Memory: 32 MiB of counters, or 16 bytes for each unit where that is more.
class QuantileSearch {
 public:
  /// `share` in (0, 1].
  QuantileSearch(std::size_t units, double share);

  /// Another pass is wanted: count() every value, then next().
  bool done() const { return left_ == 0; }
  /// No NaN.
  void count(std::size_t unit, const float* values, std::int64_t n);
  /// What this pass counted, to be summed over all ranks.
  std::vector<std::uint64_t>& counts() { return counts_; }
  void next();

  /// Once done.
  float quantile(std::size_t unit) const;

 private:
  void begin_pass();

  double share_;
  unsigned left_ = 32, bits_ = 0;      // [bits] of a word not known yet; of this pass
  std::vector<std::uint32_t> known_;   // by unit, the highest 32 - left_ bits
  std::vector<std::uint64_t> places_;  // by unit, from 1, among the values that begin alike
  std::vector<std::uint64_t> counts_;  // [units << bits_]
};

/// Replaces the upper ends of the activations by their quantiles over the images, zeros included:
/// per channel or neuron, as `ranges` has them, or the layer's in each of them. `graph`, images,
/// ranks and device as of activation_ranges, whose result `ranges` is. Collective, the same on
/// every rank and any number of ranks.
void cut_to_quantiles(ActivationRanges& ranges, const Graph& graph, double percentile,
                      BoundsPer per, const Dataset& images, const Comm& comm, at::Device device);

}  // namespace sentinel
