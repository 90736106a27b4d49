#pragma once
#include <array>
#include <cstdint>
#include <vector>

#include "sentinel/core/rng.hpp"
#include "sentinel/graph/graph.hpp"

namespace sentinel {

/// The grid of `deepvigor`: -2^10 … -2^-10, 0, 2^-10 … 2^10, ascending.
inline constexpr std::size_t kGridSide = 21;  // values on each side of 0
inline constexpr std::size_t kGridZero = kGridSide;
inline constexpr std::size_t kGridSize = 2 * kGridSide + 1;
double grid_value(std::size_t index);

/// How many deviations lie between neighbours of the grid: entry i counts those that exactly i
/// grid values do not exceed.
using DeviationCounts = std::array<std::uint64_t, kGridSize + 1>;

/// The entry a deviation belongs to; NaN counts as +10^4.
std::size_t deviation_bin(double deviation);

/// For each grid value the share of deviations strictly below it.
std::array<double, kGridSize> shares_below(const DeviationCounts& counts);

/// max(1, floor(log2 `positions`)) different numbers below `positions`, drawn from the key's
/// stream.
std::vector<std::int64_t> random_positions(std::int64_t positions, const RngKey& key);

/// A convolution's original filters and the fault-free input that they meet.
struct FiltersAtWork {
  const Conv& conv;       // contiguous, on the CPU
  std::int64_t channels;  // output channels; rows behind them are copies
  at::Tensor input;       // [N, Cin, H, W] f32, contiguous, on the CPU
  Pair output;            // size of the output map
};

/// For each channel begin … end-1 the deviations (w' - w) * x in double: w as the network reads it,
/// w' the same after a flip of one of its 32 bits, x its input (padding included) at these output
/// positions (y * width + x), all images. Exactly as if each were computed and compared.
std::vector<DeviationCounts> count_deviations(const FiltersAtWork& filters, std::int64_t begin,
                                              std::int64_t end,
                                              const std::vector<std::int64_t>& positions);

}  // namespace sentinel
