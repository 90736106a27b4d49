#include "sentinel/core/error.hpp"
#include "sentinel/graph/rules.hpp"
#include "sentinel/graph/run.hpp"

namespace sentinel {
namespace {

/// One number per channel, shaped to broadcast over x.
at::Tensor per_channel(const at::Tensor& numbers, const at::Tensor& x) {
  std::vector<std::int64_t> shape(static_cast<std::size_t>(x.dim()), 1);
  shape[1] = numbers.numel();
  return numbers.view(shape);
}

/// Copies that count as equal. Both must be finite: |Inf - x| <= 1e-5 * Inf holds for every x.
at::Tensor agree(const at::Tensor& a, const at::Tensor& b, const at::Tensor& finite_a,
                 const at::Tensor& finite_b) {
  const at::Tensor equal = at::sub(a, b).abs() <= at::maximum(a.abs(), b.abs()) * 1e-5;
  return equal & finite_a & finite_b;
}

at::Tensor inside(const at::Tensor& x, const at::Tensor& low, const at::Tensor& high) {
  return (x >= per_channel(low, x)) & (x <= per_channel(high, x));
}

/// Whether a passes, of two finite results that differ.
at::Tensor preferred(const at::Tensor& a, const at::Tensor& b, Correction correction,
                     const at::Tensor& low, const at::Tensor& high) {
  switch (correction) {
    case Correction::kRange: {
      const at::Tensor inside_a = inside(a, low, high), inside_b = inside(b, low, high);
      return at::where(inside_a == inside_b, a.abs() <= b.abs() * rules::kSameMagnitude, inside_a);
    }
    case Correction::kMin:
      return a <= b;
  }
  throw Bug("unknown correction");
}

}  // namespace

at::Tensor correct(const at::Tensor& a, const at::Tensor& computed, Correction correction,
                   const at::Tensor& low, const at::Tensor& high, const at::Tensor& same) {
  const at::Tensor b = same.defined() ? at::where(per_channel(same, a), a, computed) : computed;
  const at::Tensor finite_a = at::isfinite(a), finite_b = at::isfinite(b);
  const at::Tensor take_a =
      agree(a, b, finite_a, finite_b) |
      (finite_a & (finite_b.logical_not() | preferred(a, b, correction, low, high)));
  return at::where(take_a, a, at::where(finite_b, b, at::zeros({}, b.options())));
}

}  // namespace sentinel
