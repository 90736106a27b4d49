#pragma once
#include <cstdint>

#include "sentinel/fault/trial_engine.hpp"

namespace sentinel {

/// How the two paths of the engine agree on one trial.
struct Agreement {
  std::uint32_t images = 0;
  /// Images that are DUE in one path only, or of another predicted class without a near tie, or
  /// with a logit that deviates by more than kLogitTolerance.
  std::uint32_t mismatches = 0;
  /// Images that would be a mismatch, but rounding decides. Either the two largest logits of the
  /// reference lie closer together than kNearTie. Or the reference is run with other roundings
  /// (TrialEngine::OtherRoundings; in double precision only where neither is DUE), and one of them
  /// - gives the engine's result (an activation that is 0 or tiny before a weight of 1e36), or
  /// - differs from the reference by more than kLogitTolerance and a quarter of what the engine
  ///   does (a mean of 1e4 before a factor of 1e3; a huge sum at a bound above which all is 0).
  std::uint32_t near_ties = 0;
  /// The largest |fast - reference| / max|reference| of an image without DUE in either path.
  double deviation = 0;
};
inline constexpr double kLogitTolerance = 1e-3;  // of max|z| of the image
inline constexpr double kNearTie = 1e-4;         // of max|z| of the image

/// Throws Bug where the two are not of the same images and classes. Without other roundings of the
/// reference only near ties of logits are excused.
Agreement compare(const TrialLogits& fast, const TrialLogits& reference,
                  const TrialEngine::OtherRoundings& others = {});

/// One trial by both paths; other roundings are asked where the two differ.
struct Audit {
  TrialLogits fast, reference;
  Agreement agreement;
};
Audit audit(TrialEngine& engine, const Faults& faults, std::int32_t group = kNoGroup);

/// Whether a trial is among the share `rate` of them (0: none ... 1: all) that is audited: a pure
/// function of its arguments; a larger rate adds trials.
bool is_audited(double rate, std::uint64_t seed, std::uint32_t point, std::uint64_t trial);

}  // namespace sentinel
