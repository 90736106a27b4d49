#include "sentinel/core/portable_math.hpp"

#include <cmath>
#include <limits>

namespace sentinel {
namespace {

constexpr double kSqrtHalf = 0.70710678118654752;
// ln 2 in two parts; the first has 32 significant bits, so its products with exponents are exact.
constexpr double kLn2High = 0x1.62e42feep-1, kLn2Low = 0x1.a39ef35793c76p-33;

/// f - ln(1 + f) for 1 + f in [sqrt(1/2), sqrt(2)): with s = f/(2 + f), ln(1 + f) = 2 artanh(s) =
/// 2s + s r where r = 2 (s^2/3 + s^4/5 + ...), and 2s = f - s f. The terms left out are below
/// 2^-70 of the sum.
double below_linear(double f) {
  const double s = f / (2 + f), square = s * s;
  double r = 0;
  for (int k = 27; k >= 3; k -= 2) r = r * square + 2.0 / k;
  return s * (f - r * square);
}

}  // namespace

double portable_log(double x) {
  int exponent = 0;
  double m = std::frexp(x, &exponent);  // exact, as is m - 1
  if (m < kSqrtHalf) {
    m *= 2;
    --exponent;
  }
  const double f = m - 1;
  return exponent * kLn2High + (f - (below_linear(f) - exponent * kLn2Low));
}

double portable_log1p(double x) {
  if (x == -1) return -std::numeric_limits<double>::infinity();
  // Here 1 + x would lose the last bits of x.
  if (std::abs(x) < 0.25) return x - below_linear(x);
  return portable_log(1 + x);
}

}  // namespace sentinel
