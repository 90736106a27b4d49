#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "sentinel/fault/strata.hpp"
#include "sentinel/fault/trial_engine.hpp"
#include "unit/fault_nets.hpp"
#include "unit/tolerances.hpp"

namespace sentinel {
namespace {

constexpr std::uint64_t kSeed = 77;
constexpr int kCritical = 30;

/// The word of a site in a graph of plain convolutions and linear layers.
std::uint32_t word_of(const Graph& graph, const FaultSpace& space, const FaultSite& site) {
  const Op& op = graph[space.tensors()[site.tensor].node].op;
  const at::Tensor& weight =
      std::holds_alternative<Conv>(op) ? std::get<Conv>(op).weight : std::get<Linear>(op).weight;
  return static_cast<const std::uint32_t*>(weight.contiguous().data_ptr())[site.element];
}

struct Net {
  Graph graph = test::residual_net();
  FaultSpace space{graph};

  std::uint64_t critical_bits() const {
    std::uint64_t count = 0;
    for (std::uint64_t bit = kCritical; bit < space.sites(); bit += 32)
      count += is_critical(space.at(bit)) ? 1 : 0;
    return count;
  }
  bool is_critical(const FaultSite& site) const {
    return site.bit == kCritical && (word_of(graph, space, site) >> kCritical & 1) == 0;
  }
  std::uint64_t critical(const Faults& faults) const {
    return static_cast<std::uint64_t>(std::count_if(
        faults.begin(), faults.end(), [this](const FaultSite& site) { return is_critical(site); }));
  }
};

double sum(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

TEST(BitStrata, ShareOutTheBitsOfAWord) {
  const Net net;
  const StratifiedSampler sampler(ExactFaults{1}, {{net.graph, net.space}});
  ASSERT_EQ(sampler.strata().names.size(), 6u);
  EXPECT_EQ(sampler.strata().names[0], "bit 30");
  EXPECT_DOUBLE_EQ(sum(sampler.strata().weights), 1);
  std::vector<std::map<int, int>> drawn(6);
  constexpr int kDraws = 2000;
  for (std::int32_t h = 0; h < 6; ++h)
    for (std::uint64_t trial = 0; trial < kDraws; ++trial) {
      const Faults faults = sampler.draw(net.space, h, {kSeed, 0, trial});
      ASSERT_EQ(faults.size(), 1u);
      ++drawn[static_cast<std::size_t>(h)][faults[0].bit];
    }
  std::map<int, int> all;
  for (std::size_t h = 0; h < 6; ++h) {
    const double bits = 32 * sampler.strata().weights[h];
    EXPECT_EQ(static_cast<double>(drawn[h].size()), bits);
    for (const auto& [bit, count] : drawn[h]) {
      EXPECT_EQ(all[bit]++, 0) << "a bit in two strata";
      // Five standard deviations of a binomial count.
      EXPECT_NEAR(count, kDraws / bits, 5 * std::sqrt(kDraws / bits));
    }
  }
  EXPECT_EQ(all.size(), 32u);
}

TEST(BitStrata, WordsAreUniform) {
  const Net net;
  const StratifiedSampler sampler(ExactFaults{1}, {{net.graph, net.space}});
  constexpr int kDraws = 20000;
  std::vector<double> hits(net.space.tensors().size());
  for (std::uint64_t trial = 0; trial < kDraws; ++trial)
    ++hits[sampler.draw(net.space, 5, {kSeed, 0, trial})[0].tensor];
  for (std::size_t t = 0; t < hits.size(); ++t) {
    const double expected = kDraws * 32.0 * static_cast<double>(net.space.tensors()[t].elements) /
                            static_cast<double>(net.space.sites());
    EXPECT_NEAR(hits[t], expected, 5 * std::sqrt(expected)) << t;
  }
}

TEST(ChannelStrata, EachHoldsItsBitsOfTheChannelAlone) {
  const Net net;
  const FaultTensor& tensor = net.space.tensors().at(1);
  const std::string layer = tensor.name.substr(0, tensor.name.rfind(".weight"));
  constexpr std::int64_t kChannel = 1;
  const StratifiedSampler sampler(ChannelFaults{layer, kChannel}, {{net.graph, net.space}});
  const Strata& strata = sampler.strata();
  EXPECT_EQ(strata.names, (std::vector<std::string>{"bit 30", "bits 29-23", "bits 22-0, 31"}));
  EXPECT_EQ(strata.weights, (std::vector<double>{1.0 / 32, 7.0 / 32, 24.0 / 32}));
  constexpr int kDraws = 4000;
  std::map<int, std::int32_t> stratum_of_bit;
  for (std::int32_t h = 0; h < 3; ++h) {
    std::map<int, int> bits;
    std::map<std::uint64_t, int> elements;
    for (std::uint64_t trial = 0; trial < kDraws; ++trial) {
      const Faults faults = sampler.draw(net.space, h, {kSeed, 4, trial});
      ASSERT_EQ(faults.size(), 1u);
      EXPECT_EQ(faults, sampler.draw(net.space, h, {kSeed, 4, trial}));
      EXPECT_EQ(faults[0].tensor, 1u);
      EXPECT_EQ(faults[0].element / tensor.row, static_cast<std::uint64_t>(kChannel));
      ++bits[faults[0].bit];
      ++elements[faults[0].element];
    }
    // Five standard deviations of a binomial count.
    const auto near = [](int count, double expected) {
      EXPECT_NEAR(count, expected, 5 * std::sqrt(expected));
    };
    EXPECT_EQ(static_cast<double>(bits.size()), 32 * strata.weights[static_cast<std::size_t>(h)]);
    EXPECT_EQ(elements.size(), tensor.row);
    for (const auto& [bit, count] : bits) {
      near(count, kDraws / static_cast<double>(bits.size()));
      EXPECT_TRUE(stratum_of_bit.emplace(bit, h).second) << "a bit in two strata";
    }
    for (const auto& [element, count] : elements)
      near(count, kDraws / static_cast<double>(tensor.row));
  }
  EXPECT_EQ(stratum_of_bit.size(), 32u);
}

class CriticalStrata : public ::testing::TestWithParam<double> {  // expected critical flips
 protected:
  Net net;
  double ber = GetParam() / static_cast<double>(net.critical_bits());
  StratifiedSampler sampler{BinomialFaults{ber}, {{net.graph, net.space}}};
};

TEST_P(CriticalStrata, WeightsAreBinomialAndTheTailIsSmall) {
  const std::vector<double>& weights = sampler.strata().weights;
  ASSERT_GE(weights.size(), 2u);
  EXPECT_NEAR(sum(weights), 1, test::kDoubles);
  EXPECT_LT(weights.back(), 0.01);
  EXPECT_GE(weights.back() + weights[weights.size() - 2], 0.01);
  const auto n = static_cast<double>(net.critical_bits());
  double expected = std::pow(1 - ber, n);
  for (std::size_t k = 0; k + 1 < weights.size(); ++k) {
    EXPECT_NEAR(weights[k], expected, test::kDoubles) << k;
    expected *= (n - static_cast<double>(k)) / (static_cast<double>(k) + 1) * ber / (1 - ber);
  }
}

TEST_P(CriticalStrata, EachHoldsItsNumberOfCriticalFlips) {
  const auto last = static_cast<std::int32_t>(sampler.strata().names.size()) - 1;
  for (std::int32_t k = 0; k <= last; ++k)
    for (std::uint64_t trial = 0; trial < 200; ++trial) {
      const Faults faults = sampler.draw(net.space, k, {kSeed, 1, trial});
      for (std::size_t i = 1; i < faults.size(); ++i) ASSERT_TRUE(faults[i - 1] < faults[i]);
      const std::uint64_t critical = net.critical(faults);
      if (k < last)
        ASSERT_EQ(critical, static_cast<std::uint64_t>(k));
      else
        ASSERT_GE(critical, static_cast<std::uint64_t>(k));
      EXPECT_EQ(faults, sampler.draw(net.space, k, {kSeed, 1, trial}));
    }
}

/// Mixed by their weights the strata give back the plain sampler.
TEST_P(CriticalStrata, MixtureHasTheMomentsOfTheWhole) {
  constexpr int kDraws = 4000;
  const Strata& strata = sampler.strata();
  double faults = 0, square = 0, critical = 0;
  for (std::size_t k = 0; k < strata.weights.size(); ++k)
    for (std::uint64_t trial = 0; trial < kDraws; ++trial) {
      const Faults drawn = sampler.draw(net.space, static_cast<std::int32_t>(k), {kSeed, 2, trial});
      const double share = strata.weights[k] / kDraws;
      const auto size = static_cast<double>(drawn.size());
      faults += share * size;
      square += share * size * size;
      critical += share * static_cast<double>(net.critical(drawn));
    }
  const double mean = ber * static_cast<double>(net.space.sites());
  const double error = 5 * std::sqrt(mean / kDraws);  // of an unstratified mean, which is larger
  EXPECT_NEAR(faults, mean, error);
  EXPECT_NEAR(critical, GetParam(), error);
  EXPECT_NEAR(square - faults * faults, mean * (1 - ber), 0.1 * mean + 0.05);
}

INSTANTIATE_TEST_SUITE_P(Means, CriticalStrata, ::testing::Values(0.03, 0.4, 5.0));

TEST(Strata, NoneWhereTheyWouldSayNothing) {
  const Net net;
  const auto divides = [&](const Sampler& sampler) {
    return StratifiedSampler(sampler, {{net.graph, net.space}}).divides();
  };
  EXPECT_FALSE(divides(ExactFaults{2}));
  EXPECT_FALSE(divides(PerLayerFloorFaults{1e-3}));
  EXPECT_FALSE(divides(BinomialFaults{0}));
  EXPECT_FALSE(divides(BinomialFaults{1}));
  EXPECT_FALSE(divides(BinomialFaults{0.5}));
  const StratifiedSampler whole(ExactFaults{2}, {{net.graph, net.space}});
  const RngKey key{kSeed, 0, 3};
  EXPECT_EQ(whole.draw(net.space, 0, key), draw(ExactFaults{2}, net.space, key));
}

// ---- groups of images --------------------------------------------------------------------------

class Groups : public ::testing::TestWithParam<bool> {};  // reference only

TEST_P(Groups, ATrialOnAGroupIsItsShareOfTheWhole) {
  constexpr std::int64_t kImages = 10, kSize = 4;
  EngineOptions options;
  options.block = 3;
  options.group = kSize;
  options.reference_only = GetParam();
  TrialEngine engine(test::residual_net(), test::random_images(kImages), options);
  for (std::uint64_t trial = 0; trial < 30; ++trial) {
    const std::uint64_t count = trial % 3;  // none, one filter, some
    const Faults faults =
        count == 0 ? Faults() : draw(ExactFaults{count}, engine.space(), {kSeed, 0, trial});
    const TrialResult whole = engine.run(faults).result;
    TrialResult parts;
    for (std::int32_t group = 0; group < 3; ++group) {
      const TrialResult part = engine.run(faults, group).result;
      EXPECT_EQ(part.images, group < 2 ? 4u : 2u);
      EXPECT_EQ(part.masked + part.sdc_noncritical + part.sdc_critical + part.due, part.images);
      EXPECT_EQ(part.first_node, whole.first_node);
      parts.images += part.images;
      parts.correct += part.correct;
      parts.due += part.due;
      parts.sdc_critical += part.sdc_critical;
      parts.masked += part.masked;
    }
    EXPECT_EQ(parts.images, whole.images);
    EXPECT_EQ(parts.correct, whole.correct);
    EXPECT_EQ(parts.due, whole.due);
    EXPECT_EQ(parts.sdc_critical, whole.sdc_critical);
    EXPECT_EQ(parts.masked, whole.masked);
  }
}

INSTANTIATE_TEST_SUITE_P(Paths, Groups, ::testing::Bool(),
                         [](const auto& param) { return param.param ? "reference" : "fast"; });

}  // namespace
}  // namespace sentinel
