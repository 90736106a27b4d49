#include "sentinel/fault/audit.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "sentinel/core/error.hpp"
#include "sentinel/core/rng.hpp"

namespace sentinel {
namespace {

constexpr std::int64_t kDue = -1;  // a prediction

struct Logits {
  const float* values = nullptr;
  std::int64_t classes = 0;

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

/// Adds one image.
void add(Agreement& agreement, const Logits& fast, std::int64_t fast_class, const Logits& reference,
         std::int64_t reference_class) {
  if (fast_class == kDue || reference_class == kDue) {
    agreement.mismatches += fast_class != reference_class;
    return;
  }
  const double deviation = deviation_of(fast, reference);
  agreement.deviation = std::max(agreement.deviation, deviation);
  const bool other_class = fast_class != reference_class;
  const bool excused = other_class && near_tie(reference);
  if (deviation > kLogitTolerance || (other_class && !excused))
    ++agreement.mismatches;
  else
    agreement.near_ties += excused;
}

}  // namespace

Agreement compare(const TrialLogits& fast, const TrialLogits& reference) {
  if (fast.logits.dim() != 2 || fast.logits.sizes() != reference.logits.sizes())
    throw Bug("the logits of an audit's two paths differ in shape");
  const at::Tensor a = fast.logits.contiguous(), b = reference.logits.contiguous();
  const at::Tensor a_class = fast.predictions.contiguous();
  const at::Tensor b_class = reference.predictions.contiguous();
  const std::int64_t images = a.size(0), classes = a.size(1);
  Agreement agreement;
  agreement.images = static_cast<std::uint32_t>(images);
  for (std::int64_t i = 0; i < images; ++i)
    add(agreement, {a.data_ptr<float>() + i * classes, classes},
        a_class.data_ptr<std::int64_t>()[i], {b.data_ptr<float>() + i * classes, classes},
        b_class.data_ptr<std::int64_t>()[i]);
  return agreement;
}

bool is_audited(double rate, std::uint64_t seed, std::uint32_t point, std::uint64_t trial) {
  return Rng({seed, point, trial, Purpose::kAudit}).uniform() < rate;
}

}  // namespace sentinel
