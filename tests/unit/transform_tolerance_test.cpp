#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "sentinel/graph/profile.hpp"
#include "sentinel/transform/vulnerability.hpp"
#include "transform/tolerance_search.hpp"
#include "transform/vulnerability_grid.hpp"
#include "unit/deepvigor_support.hpp"

namespace sentinel {
namespace {

using test::balanced;
using test::factors;
using test::grouped_net;
using test::noise;

constexpr double kInf = std::numeric_limits<double>::infinity();

// ---- counts -------------------------------------------------------------------------------------

TEST(Vulnerability, DeviationsAreCountedByWhatTheyReach) {
  std::vector<double> values = {0.0,    -0.0,    std::nan(""), kInf,  -kInf,
                                5e-324, -5e-324, 1e308,        -1e308};
  for (int step = 0; step < kLongestGrid; ++step)
    for (int side = 0; side < kToleranceSides; ++side) {
      const double grid = tolerance_value(side, step);
      values.insert(values.end(), {grid, std::nextafter(grid, 0), std::nextafter(grid, 2 * grid)});
    }
  DeviationsBySize counts;
  for (const double d : values) counts.add(d);
  EXPECT_EQ(counts.total(), values.size());
  EXPECT_EQ(counts.not_finite, 3U);
  EXPECT_EQ(counts.zero, 2U);
  EXPECT_EQ(tolerance_value(0, 0), 0x1p-10);
  EXPECT_EQ(tolerance_value(1, kLongestGrid - 1), -0x1p127);
  for (int step = -1; step <= kLongestGrid; ++step) {
    const double grid = step < 0 ? 5e-324 : step == kLongestGrid ? kInf : tolerance_value(0, step);
    const auto reach = [&](double sign) {
      return static_cast<std::uint64_t>(std::count_if(values.begin(), values.end(), [&](double d) {
        return std::isfinite(d) && sign * d >= grid;
      }));
    };
    EXPECT_EQ(counts.reach(0, step), reach(1)) << step;
    EXPECT_EQ(counts.reach(1, step), reach(-1)) << step;
  }
}

// ---- searches -----------------------------------------------------------------------------------

TEST(Vulnerability, InexactSearchesTellHowOftenTheyDiffer) {
  at::manual_seed(47);
  const Dataset images = noise({3, 8, 8}, 6, 6);
  const Graph graph = balanced(test::plain_residual(), images);
  FactorOptions options;
  const VulnerabilityFile exact = factors(graph, images, options);
  EXPECT_EQ(exact.compared, 0U);
  options.search = ToleranceOrder::kBisect;
  const VulnerabilityFile halved = factors(graph, images, options);
  std::uint64_t compared = 0, differing = 0, earlier = 0;
  for (std::size_t i = 0; i < exact.layers.size(); ++i) {
    const auto &own = halved.layers[i].tolerance, &right = exact.layers[i].tolerance;
    const auto& rows = halved.layers[i].row;
    for (std::size_t k = 0; k < own.size(); ++k) {
      const std::size_t image = k / 2 % 6;
      const bool drawn = is_compared(options.search, graph.find(halved.layers[i].layer),
                                     {rows[k / 12], -1}, static_cast<std::int64_t>(image), k % 2);
      compared += drawn;
      differing += drawn && own[k] != right[k];
      earlier += own[k] < right[k];
    }
  }
  EXPECT_EQ(halved.compared, compared);
  EXPECT_EQ(halved.differing, differing);
  // What bisection finds does change the prediction, so that it is not before the first.
  EXPECT_EQ(earlier, 0U);
  options.search = ToleranceOrder::kProportional;
  const VulnerabilityFile proportional = factors(graph, images, options);
  EXPECT_GT(halved.compared, 20U);
  EXPECT_GT(proportional.compared, 0U);
  EXPECT_EQ(proportional.differing, 0U);
  for (std::size_t i = 0; i < exact.layers.size(); ++i)
    EXPECT_EQ(proportional.layers[i].tolerance, exact.layers[i].tolerance);
}

/// `rank` leaves copies out, and layers that are no convolutions.
TEST(Vulnerability, RankingsWithoutALimitAreItsFactors) {
  at::manual_seed(48);
  const Dataset images = noise({3, 9, 7}, 3, 7);
  const Graph graph = balanced(grouped_net(), images);
  FactorOptions options;
  options.pool_images = true;
  const VulnerabilityFile file = factors(graph, images, options);
  ImportanceInputs inputs{graph};
  inputs.images = &images;
  inputs.deepvigor.limited = false;
  const ChannelScores scores = importance_method("deepvigor")->score(inputs);
  ASSERT_EQ(scores.size(), 4U);
  for (std::size_t i = 0; i < scores.size(); ++i) {
    std::vector<double> factors = file.layers[i].lower;
    if (scores[i].layer == "copied") factors.resize(factors.size() - 2);
    EXPECT_EQ(scores[i].layer, file.layers[i].layer);
    EXPECT_EQ(scores[i].scores, factors);
  }
}

}  // namespace
}  // namespace sentinel
