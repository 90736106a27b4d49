#pragma once
#include <cstdint>

#include "sentinel/fault/trial_engine.hpp"

namespace sentinel {

/// How the two paths of the engine agree on one trial (design 06, "Equality").
struct Agreement {
  std::uint32_t images = 0;
  /// Images that are DUE in one path only, or of another predicted class without a near tie, or
  /// with a logit that deviates by more than kLogitTolerance.
  std::uint32_t mismatches = 0;
  /// Images of another predicted class, and no mismatch: the two largest logits of the reference
  /// lie closer together than kNearTie, so that rounding decides.
  std::uint32_t near_ties = 0;
  /// The largest |fast - reference| / max|reference| of an image without DUE in either path.
  double deviation = 0;
};
inline constexpr double kLogitTolerance = 1e-3;  // of max|z| of the image
inline constexpr double kNearTie = 1e-4;         // of max|z| of the image

/// Throws Bug where the two are not of the same images and classes.
Agreement compare(const TrialLogits& fast, const TrialLogits& reference);

/// Whether a trial is among the share `rate` of them (0: none ... 1: all) that is audited: a pure
/// function of its arguments; a larger rate adds trials.
bool is_audited(double rate, std::uint64_t seed, std::uint32_t point, std::uint64_t trial);

}  // namespace sentinel
