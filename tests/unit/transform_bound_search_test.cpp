#include "sentinel/transform/bound_search.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "sentinel/core/error.hpp"
#include "sentinel/core/rng.hpp"
#include "sentinel/transform/harden.hpp"
#include "transform/quantiles.hpp"
#include "unit/transform_support.hpp"

namespace sentinel {
namespace {

TEST(BoundSearch, IsReadAsItIsWritten) {
  for (const char* word : {"max", "percentile:99.9", "percentile:100", "percentile:0.5"})
    EXPECT_EQ(bound_search_name(parse_bound_search(word)), word);
  EXPECT_EQ(parse_bound_search("percentile:99.9").percentile, 99.9);
  for (const char* word : {"percentile", "percentile:", "percentile:q", "percentile:0",
                           "percentile:100.1", "percentile:nan", "percentile:9,9", "", "Max"})
    EXPECT_THROW(parse_bound_search(word), UserError) << word;
}

/// The smallest value such that at least the share of all is not above it, by sorting.
float sorted_quantile(std::vector<float> values, double share) {
  std::sort(values.begin(), values.end());
  const double place = std::ceil(static_cast<double>(values.size()) * share);
  return values.at(static_cast<std::size_t>(std::max(1.0, place)) - 1);
}

std::vector<float> awkward_values(std::uint64_t seed, std::size_t n) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const std::vector<float> special = {0, -0.0F, 1, -1, kInfinity, -kInfinity, 1e-42F, -1e-42F};
  Rng rng({seed});
  std::vector<float> values;
  for (std::size_t i = 0; i < n; ++i)
    values.push_back(rng.below(3) == 0 ? special[rng.below(special.size())]
                                       : static_cast<float>(rng.normal()));
  return values;
}

/// As two ranks would: every unit's values in two parts.
std::vector<float> searched(const std::vector<std::vector<float>>& units, double share) {
  QuantileSearch search(units.size(), share);
  while (!search.done()) {
    for (std::size_t u = 0; u < units.size(); ++u) {
      const auto size = static_cast<std::int64_t>(units[u].size()), half = size / 2;
      search.count(u, units[u].data() + half, size - half);
      search.count(u, units[u].data(), half);
    }
    search.next();
  }
  std::vector<float> found;
  for (std::size_t u = 0; u < units.size(); ++u) found.push_back(search.quantile(u));
  return found;
}

TEST(QuantileSearch, IsWhatSortingGives) {
  // The more units, the fewer bits a pass looks at: 16 to 1.
  for (const std::size_t count : {1U, 3U, 700U, 300000U, 3000000U}) {
    const std::size_t kinds = std::min<std::size_t>(count, 40);
    std::vector<std::vector<float>> units;
    for (std::size_t u = 0; u < count; ++u)
      units.push_back(count < 1000 ? awkward_values(u, 1 + 37 * (u % kinds))
                                   : awkward_values(u % kinds, 1 + u % 3));
    for (const double share : {1e-9, 0.5, 0.999, 1.0}) {
      if (count > 1000 && share != 0.5) continue;
      const std::vector<float> found = searched(units, share);
      for (std::size_t u = 0; u < count; ++u)
        ASSERT_EQ(found[u], sorted_quantile(units[u], share)) << u << " of " << count;
    }
  }
}

TEST(QuantileSearch, TakesTheSmallestValueThatTheShareDoesNotExceed) {
  const std::vector<float> values = {0, 0, 0, 0, 0, 1, 2, 3, 4, 5};
  // As numpy.percentile(values, q, method="inverted_cdf").
  for (const auto& [percentile, expected] :
       {std::pair{50.0, 0.0F}, {50.1, 1.0F}, {60.0, 1.0F}, {90.0, 4.0F}, {99.9, 5.0F}})
    EXPECT_EQ(searched({values}, percentile / 100).at(0), expected) << percentile;
}

/// The outputs of an activation on the images, by what has a bound of its own.
std::vector<std::vector<float>> outputs(const Graph& graph, const std::string& name,
                                        const Dataset& images, BoundsPer per) {
  Trace trace{images.batch(0, images.size(), {}).images};
  run(graph, trace);
  const at::Tensor output = trace[static_cast<std::size_t>(graph.find(name))].flatten(2);
  const std::int64_t units = per == BoundsPer::kLayer     ? 1
                             : per == BoundsPer::kChannel ? output.size(1)
                                                          : output.size(1) * output.size(2);
  // [image, channel, position] to [unit, its values]
  const at::Tensor rows =
      output.reshape({images.size(), units, -1}).transpose(0, 1).reshape({units, -1}).contiguous();
  std::vector<std::vector<float>> values;
  for (std::int64_t u = 0; u < units; ++u) {
    const float* own = rows[u].data_ptr<float>();
    values.emplace_back(own, own + rows.size(1));
  }
  return values;
}

TEST(BoundSearch, PercentileIsTheQuantileOfTheFaultFreeActivations) {
  at::manual_seed(5);
  const Graph graph = test::plain_residual();
  const Dataset images = test::quadrants(70, 2);  // three blocks
  HardeningPlan plan;
  plan.duplication.ratio = 0;
  plan.search = parse_bound_search("percentile:97");
  for (const BoundsPer per : {BoundsPer::kLayer, BoundsPer::kChannel, BoundsPer::kNeuron}) {
    plan.bounds = per;
    plan.clipping = per == BoundsPer::kNeuron ? Clipping::kSmooth : Clipping::kRanger;
    const Graph hardened = harden(graph, {}, plan, images, Comm::local(), at::kCPU);
    for (const char* name : {"relu", "layer1.0.relu_1", "layer2.0.relu"}) {
      const std::vector<std::vector<float>> units = outputs(graph, name, images, per);
      const auto& op = std::get<BoundedActivation>(hardened[hardened.find(name)].op);
      const at::Tensor bounds = op.bound.reshape({-1});
      ASSERT_EQ(static_cast<std::size_t>(bounds.numel()), units.size());
      for (std::size_t u = 0; u < units.size(); ++u) {
        const double expected = sorted_quantile(units[u], 0.97) * (1 + 0x1p-10);
        // Convolutions of blocks of another size round otherwise.
        EXPECT_NEAR(bounds[static_cast<std::int64_t>(u)].item<float>(), expected,
                    1e-5 * std::max(1.0, expected))
            << name << " " << u;
      }
    }
  }
}

TEST(BoundSearch, ThePercentileOf100IsTheLargest) {
  at::manual_seed(6);
  const Graph graph = test::plain_residual();
  const Dataset images = test::quadrants(40, 2);
  HardeningPlan plan;
  plan.duplication.ratio = 0;
  plan.bounds = BoundsPer::kChannel;
  const Graph largest = harden(graph, {}, plan, images, Comm::local(), at::kCPU);
  plan.search = parse_bound_search("percentile:100");
  const Graph quantile = harden(graph, {}, plan, images, Comm::local(), at::kCPU);
  for (NodeId id = 0; id < graph.size(); ++id) {
    if (const auto* op = std::get_if<BoundedActivation>(&largest[id].op)) {
      EXPECT_TRUE(at::equal(op->bound, std::get<BoundedActivation>(quantile[id].op).bound));
    }
  }
}

}  // namespace
}  // namespace sentinel
