#include "sentinel/fault/audit.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "sentinel/core/error.hpp"
#include "sentinel/core/rng.hpp"

namespace sentinel {
namespace {

constexpr std::int64_t kDue = -1;  // a prediction
constexpr double kSpread = 4;      // of differences by rounding alone

/// Of one image.
struct Logits {
  const float* values = nullptr;
  std::int64_t classes = 0;
  std::int64_t prediction = kDue;

  double scale() const {
    double largest = 0;
    for (std::int64_t c = 0; c < classes; ++c)
      largest = std::max(largest, std::abs(static_cast<double>(values[c])));
    return largest;
  }
};

/// As doubles: differences of huge floats must not overflow.
double deviation_of(const Logits& fast, const Logits& reference) {
  double largest = 0;
  for (std::int64_t c = 0; c < fast.classes; ++c)
    largest = std::max(largest, std::abs(static_cast<double>(fast.values[c]) -
                                         static_cast<double>(reference.values[c])));
  if (largest == 0) return 0;
  const double scale = reference.scale();
  return scale > 0 ? largest / scale : std::numeric_limits<double>::infinity();
}

bool near_tie(const Logits& z) {
  double first = -std::numeric_limits<double>::infinity(), second = first;
  for (std::int64_t c = 0; c < z.classes; ++c) {
    const auto value = static_cast<double>(z.values[c]);
    second = std::max(second, std::min(first, value));
    first = std::max(first, value);
  }
  return first - second < kNearTie * z.scale();
}

enum class Verdict { kSame, kNearTie, kOther };

/// One image of two runs.
Verdict verdict_of(const Logits& z, const Logits& reference) {
  if (z.prediction == kDue || reference.prediction == kDue)
    return z.prediction == reference.prediction ? Verdict::kSame : Verdict::kOther;
  if (deviation_of(z, reference) > kLogitTolerance) return Verdict::kOther;
  if (z.prediction == reference.prediction) return Verdict::kSame;
  return near_tie(reference) ? Verdict::kNearTie : Verdict::kOther;
}

/// The images of one run.
class Run {
 public:
  Run(const at::Tensor& logits, const at::Tensor& predictions)
      : logits_(logits.contiguous()), predictions_(predictions.contiguous()) {}
  explicit Run(const at::Tensor& logits) : Run(logits, predictions_of(logits)) {}

  Logits operator[](std::int64_t image) const {
    const std::int64_t classes = logits_.size(1);
    return {logits_.data_ptr<float>() + image * classes, classes,
            predictions_.data_ptr<std::int64_t>()[image]};
  }

 private:
  at::Tensor logits_, predictions_;
};

/// Whether rounding decides an image: another run of the reference gives what the engine gives, or
/// such runs differ from the reference itself so much that the engine is no further away (kSpread).
bool excuses(const std::vector<Run>& others, const Logits& fast, const Logits& reference,
             std::int64_t image) {
  double spread = 0;
  for (const Run& other : others) {
    const Logits again = other[image];
    if (verdict_of(fast, again) != Verdict::kOther) return true;
    if (again.prediction != kDue) spread = std::max(spread, deviation_of(again, reference));
  }
  if (fast.prediction == kDue || reference.prediction == kDue) return false;
  return spread > kLogitTolerance && deviation_of(fast, reference) <= kSpread * spread;
}

}  // namespace

Agreement compare(const TrialLogits& fast, const TrialLogits& reference,
                  const TrialEngine::OtherRoundings& others) {
  if (fast.logits.dim() != 2 || fast.logits.sizes() != reference.logits.sizes())
    throw Bug("the logits of an audit's two paths differ in shape");
  const Run ours(fast.logits, fast.predictions), theirs(reference.logits, reference.predictions);
  std::vector<Run> singles, doubles;
  for (const at::Tensor& logits : others.singles) singles.emplace_back(logits);
  if (others.doubles.defined()) doubles.emplace_back(others.doubles);
  Agreement agreement;
  agreement.images = static_cast<std::uint32_t>(fast.logits.size(0));
  for (std::int64_t i = 0; i < fast.logits.size(0); ++i) {
    const Logits a = ours[i], b = theirs[i];
    const bool finite = a.prediction != kDue && b.prediction != kDue;
    if (finite) agreement.deviation = std::max(agreement.deviation, deviation_of(a, b));
    Verdict verdict = verdict_of(a, b);
    // Doubles overflow later, so that they tell nothing of a DUE.
    if (verdict == Verdict::kOther &&
        (excuses(singles, a, b, i) || (finite && excuses(doubles, a, b, i))))
      verdict = Verdict::kNearTie;
    agreement.mismatches += verdict == Verdict::kOther;
    agreement.near_ties += verdict == Verdict::kNearTie;
  }
  return agreement;
}

Audit audit(TrialEngine& engine, const Faults& faults, std::int32_t group) {
  Audit both{engine.logits(faults, group), engine.logits_reference(faults, group), {}};
  both.agreement = compare(both.fast, both.reference);
  if (both.agreement.mismatches > 0)
    both.agreement =
        compare(both.fast, both.reference, engine.logits_rounded_otherwise(faults, group));
  return both;
}

bool is_audited(double rate, std::uint64_t seed, std::uint32_t point, std::uint64_t trial) {
  return Rng({seed, point, trial, Purpose::kAudit}).uniform() < rate;
}

}  // namespace sentinel
