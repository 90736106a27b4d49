#include "sentinel/stats/guessing.hpp"

#include <boost/math/distributions/binomial.hpp>

namespace sentinel {

bool looks_like_guessing(std::int64_t correct, std::int64_t images, std::int64_t classes) {
  if (images < 1 || classes < 2) return false;
  const auto n = static_cast<double>(images), k = static_cast<double>(correct);
  const double chance = 1.0 / static_cast<double>(classes);
  const double modest = chance + (1 - chance) / 3;
  const boost::math::binomial guessing(n, chance), working(n, modest);
  const double as_many = correct == 0 ? 1 : cdf(complement(guessing, k - 1));
  return as_many > 0.05 && cdf(working, k) < 0.01;
}

}  // namespace sentinel
