#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>

#include "sentinel/core/error.hpp"
#include "sentinel/graph/graph.hpp"

/// Each protection for one value. Kernels call these. The operators of LibTorch in `run`, the pass
/// of kernels::apply_epilogue and the TorchScript of an export say the same, and tests compare
/// their bits.
namespace sentinel::rules {

/// A stored weight as it is read: kept in [low, high], else 0. NaN anywhere: 0.
inline float read_weight(float stored, float low, float high) {
  return stored >= low && stored <= high ? stored : 0.0F;
}

/// Names in options and files; every clipping with its own.
constexpr const char* clipping_name(Clipping clipping) {
  switch (clipping) {
    case Clipping::kRanger:
      return "ranger";
    case Clipping::kRangerClamp:
      return "ranger-clamp";
    case Clipping::kSmooth:
      return "smooth";
  }
  throw Bug("unknown clipping");
}
inline constexpr std::array<std::pair<Clipping, const char*>, 3> kClippings{
    {{Clipping::kRanger, clipping_name(Clipping::kRanger)},
     {Clipping::kRangerClamp, clipping_name(Clipping::kRangerClamp)},
     {Clipping::kSmooth, clipping_name(Clipping::kSmooth)}}};

/// kSmooth is for ReLUs alone.
constexpr bool can_restrict(Clipping clipping, ActivationKind kind) {
  return clipping != Clipping::kSmooth || kind == ActivationKind::kRelu;
}

constexpr const char* bounds_name(BoundsPer per) {
  switch (per) {
    case BoundsPer::kLayer:
      return "layer";
    case BoundsPer::kChannel:
      return "channel";
    case BoundsPer::kNeuron:
      return "neuron";
  }
  throw Bug("bounds of an unknown kind");
}

/// The bound of a BoundedActivation as it acts, if a fault hit it. Of a ReLU, one that is not above
/// 0 (NaN too) counts as 0. kRanger lets no Inf pass, whatever the bound.
inline float acting_bound(float bound, Clipping clipping, ActivationKind kind) {
  const float most = clipping == Clipping::kRanger ? std::numeric_limits<float>::max()
                                                   : std::numeric_limits<float>::infinity();
  const bool acts = kind != ActivationKind::kRelu || bound > 0.0F;
  return acts ? (bound > most ? most : bound) : 0.0F;
}

/// A ReLU that falls off at its bound: max(0, x / (1 + exp(20 (x - bound)))), bound / 2 at it, 0
/// above bound + 5. In double, for the exponent magnifies rounding. By the bound it grows by
/// 20 x s (1 - s), s = 1 / (1 + exp(-20 (x - bound))), where it is above 0.
inline float smooth(float value, float bound) {
  const double x = value, above = x - bound;
  if (!(x > 0 && above <= 5)) return 0.0F;  // Inf - Inf is NaN
  if (above < -1) return value;             // as exp(-20) is less than half of the last bit
  return static_cast<float>(x / (1 + std::exp(20 * above)));
}

inline constexpr float kNoLow = -std::numeric_limits<float>::infinity();

/// A BoundedActivation after its function: `value` is the function's result, of a ReLU its input.
/// `bound` as it acts; kSmooth has no lower one. NaN anywhere: 0.
inline float restrict(float value, float low, float bound, Clipping clipping, ActivationKind kind) {
  if (clipping == Clipping::kSmooth) return smooth(value, bound);
  if (kind == ActivationKind::kRelu && !(value > 0.0F)) return 0.0F;
  if (value >= low && value <= bound) return value;
  if (clipping == Clipping::kRanger || std::isnan(low) || std::isnan(bound)) return 0.0F;
  return value > bound ? bound : value < low ? low : 0.0F;
}

/// Magnitudes up to this ratio are the same: a and -a, computed apart, differ by rounding.
inline constexpr float kSameMagnitude = 1.00001F;

/// Two results of a duplicated channel, the original's and the copy's (see Correction).
inline float merge(float a, float b, Correction correction, float low, float high) {
  const bool finite_a = std::isfinite(a), finite_b = std::isfinite(b);
  if (finite_a && finite_b && std::fabs(a - b) <= std::max(std::fabs(a), std::fabs(b)) * 1e-5F)
    return a;
  bool prefer_a = a <= b;
  if (correction == Correction::kRange) {
    const bool inside_a = a >= low && a <= high, inside_b = b >= low && b <= high;
    prefer_a = inside_a == inside_b ? std::fabs(a) <= std::fabs(b) * kSameMagnitude : inside_a;
  }
  if (finite_a && (!finite_b || prefer_a)) return a;
  return finite_b ? b : 0.0F;
}

}  // namespace sentinel::rules
