#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "sentinel/core/error.hpp"
#include "sentinel/fault/sampler.hpp"
#include "unit/fault_nets.hpp"
#include "unit/tolerances.hpp"

namespace sentinel {
namespace {

constexpr std::uint64_t kSeed = 2024;

/// 8 + 4 elements, 384 bits.
FaultSpace tiny_space() {
  test::Builder b(1, {1, {2, 2}});
  NodeId x = b.graph.add("conv", b.conv(1, 2, 2, 1, false), {0});
  std::get<Conv>(b.graph[x].op).padding = {0, 0};
  x = b.graph.add("flatten", Flatten{}, {x});
  b.linear("fc", x, 2, 2);
  return FaultSpace(b.graph);
}

std::vector<std::uint64_t> bits_of(const FaultSpace& space, const Faults& faults) {
  std::vector<std::uint64_t> bits;
  for (const FaultSite& site : faults) bits.push_back(space.index(site));
  return bits;
}

void expect_sorted_distinct(const Faults& faults) {
  for (std::size_t i = 1; i < faults.size(); ++i) ASSERT_TRUE(faults[i - 1] < faults[i]);
}

TEST(Draw, IsAPureFunctionOfTheTrial) {
  const FaultSpace space(test::residual_net());
  const std::vector<Sampler> samplers = {BinomialFaults{1e-3}, PerLayerFloorFaults{1e-3},
                                         ExactFaults{7}};
  for (const Sampler& sampler : samplers) {
    std::vector<Faults> forward;
    for (std::uint64_t trial = 0; trial < 50; ++trial) {
      forward.push_back(draw(sampler, space, {kSeed, 0, trial}));
      expect_sorted_distinct(forward.back());
      EXPECT_FALSE(forward.back().empty());
    }
    for (std::uint64_t trial = 50; trial-- > 0;)
      EXPECT_EQ(draw(sampler, space, {kSeed, 0, trial}), forward[trial]);
    EXPECT_NE(forward[0], forward[1]);
    EXPECT_NE(draw(sampler, space, {kSeed + 1, 0, 0}), forward[0]);
    EXPECT_NE(draw(sampler, space, {kSeed, 1, 0}), forward[0]);
  }
}

// The numbers come from a separate implementation of Philox4x32-10 and the samplers in Python.
TEST(Draw, KnownAnswers) {
  const FaultSpace space = tiny_space();
  ASSERT_EQ(space.sites(), 384u);
  const RngKey key{42, 3, 5, Purpose::kFaults};
  using Bits = std::vector<std::uint64_t>;
  EXPECT_EQ(bits_of(space, draw(BinomialFaults{0.02}, space, key)),
            (Bits{16, 129, 140, 169, 199, 213, 216, 221, 357, 361}));
  EXPECT_EQ(bits_of(space, draw(PerLayerFloorFaults{0.02}, space, key)),
            (Bits{6, 36, 47, 54, 173, 318, 373}));
  EXPECT_EQ(bits_of(space, draw(ExactFaults{4}, space, key)), (Bits{6, 50, 239, 291}));
}

TEST(Draw, BerZeroHitsNothingAndOneEverything) {
  const FaultSpace space = tiny_space();
  EXPECT_TRUE(draw(BinomialFaults{0}, space, {kSeed}).empty());
  EXPECT_TRUE(draw(PerLayerFloorFaults{0}, space, {kSeed}).empty());
  EXPECT_TRUE(draw(ExactFaults{0}, space, {kSeed}).empty());
  for (const Sampler& sampler : std::vector<Sampler>{BinomialFaults{1}, PerLayerFloorFaults{1},
                                                     ExactFaults{space.sites()}}) {
    const Faults faults = draw(sampler, space, {kSeed});
    expect_sorted_distinct(faults);
    EXPECT_EQ(faults.size(), space.sites());
  }
  // The first gap exceeds every integer type.
  EXPECT_TRUE(draw(BinomialFaults{1e-300}, space, {kSeed}).empty());
  EXPECT_TRUE(
      draw(BinomialFaults{std::numeric_limits<double>::denorm_min()}, space, {kSeed}).empty());
}

// K ~ Binomial(n, p): mean np, variance np(1-p); five standard errors of either estimate.
TEST(Draw, BinomialCountHasItsMeanAndVariance) {
  const FaultSpace space = tiny_space();
  const auto n = static_cast<double>(space.sites());
  constexpr int kTrials = 20000;
  for (const double p : {0.001, 0.02, 0.5, 0.97}) {
    double sum = 0, squares = 0;
    for (std::uint64_t trial = 0; trial < kTrials; ++trial) {
      const auto k = static_cast<double>(draw(BinomialFaults{p}, space, {kSeed, 1, trial}).size());
      sum += k;
      squares += (k - n * p) * (k - n * p);
    }
    const double variance = n * p * (1 - p);
    const double fourth = variance * (1 + 3 * variance * (1 - 2 / n));  // central moment
    EXPECT_NEAR(sum / kTrials, n * p, 5 * std::sqrt(variance / kTrials)) << "p = " << p;
    EXPECT_NEAR(squares / kTrials, variance,
                5 * std::sqrt((fourth - variance * variance) / kTrials))
        << "p = " << p;
  }
}

/// Pearson's statistic of the hits per bit against equal shares, in standard deviations of its
/// chi-square distribution.
double uniformity(const Sampler& sampler, const FaultSpace& space, std::uint64_t begin,
                  std::uint64_t end) {
  constexpr std::uint64_t kTrials = 20000;
  std::vector<double> hits(end - begin, 0);
  double total = 0;
  for (std::uint64_t trial = 0; trial < kTrials; ++trial)
    for (const std::uint64_t bit : bits_of(space, draw(sampler, space, {kSeed, 2, trial})))
      if (bit >= begin && bit < end) {
        hits[bit - begin] += 1;
        total += 1;
      }
  const auto cells = static_cast<double>(end - begin);
  double statistic = 0;
  for (const double count : hits)
    statistic += (count - total / cells) * (count - total / cells) / (total / cells);
  return (statistic - (cells - 1)) / std::sqrt(2 * (cells - 1));
}

TEST(Draw, SitesAreUniform) {
  const FaultSpace space = tiny_space();
  EXPECT_LT(std::abs(uniformity(BinomialFaults{0.02}, space, 0, 384)), 5);
  EXPECT_LT(std::abs(uniformity(ExactFaults{3}, space, 0, 384)), 5);
  EXPECT_LT(std::abs(uniformity(PerLayerFloorFaults{0.02}, space, 0, 256)), 5);
  EXPECT_LT(std::abs(uniformity(PerLayerFloorFaults{0.02}, space, 256, 384)), 5);
}

// Floyd's algorithm gives every subset with the same probability, so neighbours are as frequent as
// their share of all pairs.
TEST(Draw, SubsetsAreUniform) {
  const FaultSpace space = tiny_space();
  constexpr int kTrials = 60000;
  int neighbours = 0;
  for (std::uint64_t trial = 0; trial < kTrials; ++trial) {
    const auto bits = bits_of(space, draw(ExactFaults{2}, space, {kSeed, 3, trial}));
    ASSERT_EQ(bits.size(), 2u);
    neighbours += bits[1] == bits[0] + 1;
  }
  const double p = 2.0 / 384;  // 383 of 384 * 383 / 2 pairs
  EXPECT_NEAR(neighbours, kTrials * p, 5 * std::sqrt(kTrials * p * (1 - p)));
}

TEST(Draw, PerLayerFloorCountsPerTensor) {
  const FaultSpace space(test::residual_net());
  const double ber = 1e-3;
  const Faults faults = draw(PerLayerFloorFaults{ber}, space, {kSeed});
  const auto expected = expected_faults(PerLayerFloorFaults{ber}, space);
  for (std::size_t i = 0; i < space.tensors().size(); ++i) {
    const auto hits = std::count_if(faults.begin(), faults.end(),
                                    [&](const FaultSite& site) { return site.tensor == i; });
    const double bits = static_cast<double>(space.tensors()[i].elements) * 32;
    EXPECT_EQ(static_cast<double>(hits), std::floor(ber * bits)) << space.tensors()[i].name;
    EXPECT_EQ(static_cast<double>(hits), expected[i]);
  }
}

TEST(Draw, ExpectedFaultsSumUp) {
  const FaultSpace space(test::residual_net());
  double binomial = 0, exact = 0;
  for (const double e : expected_faults(BinomialFaults{1e-3}, space)) binomial += e;
  for (const double e : expected_faults(ExactFaults{7}, space)) exact += e;
  EXPECT_NEAR(binomial, 1e-3 * static_cast<double>(space.sites()), test::kDoubles);
  EXPECT_NEAR(exact, 7, test::kDoubles);
}

TEST(Draw, RefusesMoreFaultsThanBits) {
  const FaultSpace space = tiny_space();
  EXPECT_THROW(draw(ExactFaults{space.sites() + 1}, space, {kSeed}), UserError);
  EXPECT_THROW(draw(BinomialFaults{1.5}, space, {kSeed}), UserError);
}

TEST(FaultCount, IsTheInverseOfItsName) {
  for (const char* name : {"binomial", "per-layer-floor", "exact:1", "exact:4000000000000"}) {
    EXPECT_EQ(fault_count_name(parse_fault_count(name)), name);
    EXPECT_EQ(sampler_name(sampler_of(parse_fault_count(name), 0.25)), name);
  }
  EXPECT_EQ(sampler_ber(sampler_of(parse_fault_count("binomial"), 0.25)), 0.25);
  EXPECT_EQ(sampler_ber(sampler_of(parse_fault_count("per-layer-floor"), 0.25)), 0.25);
  EXPECT_EQ(sampler_ber(sampler_of(parse_fault_count("exact:3"), 0.25)), 0);
  EXPECT_TRUE(parse_fault_count("exact:1") == kSingleFault);
  EXPECT_TRUE(kSingleFault.is_single());
  EXPECT_FALSE(parse_fault_count("exact:2").is_single());
}

TEST(FaultCount, RefusesNonsense) {
  for (const char* name : {"", "exact", "exact:", "exact:0", "exact:-1", "exact:2x", "exact:1e3",
                           "exact:99999999999999999999", "Binomial", "3"})
    EXPECT_THROW(parse_fault_count(name), UserError) << name;
  for (const double ber : {-1e-9, 1.0001, std::nan(""), HUGE_VAL})
    EXPECT_THROW(sampler_of({}, ber), UserError) << ber;
}

/// Bits of the channels of a hardened network, by walking over all trials.
TEST(ChannelFaults, AllTrialsTogetherFlipEveryBitOfTheChannelOnce) {
  const Graph graph = test::hardened(test::residual_net(), test::random_images(4).images);
  const FaultSpace space(graph);
  for (std::uint32_t t = 0; t < space.tensors().size(); ++t) {
    const FaultTensor& tensor = space.tensors()[t];
    const std::string layer = tensor.name.substr(0, tensor.name.rfind('.'));
    const std::uint64_t channel = tensor.originals / tensor.row - 1;  // the last, before any copy
    ChannelOrder order({layer, static_cast<std::int64_t>(channel)}, space, {kSeed, t});
    ASSERT_EQ(order.bits(), tensor.row * 32);
    std::vector<std::uint64_t> bits;
    for (std::uint64_t trial = 0; trial < order.bits(); ++trial) bits.push_back(order.at(trial));
    EXPECT_FALSE(std::is_sorted(bits.begin(), bits.end()));
    std::sort(bits.begin(), bits.end());
    for (std::uint64_t i = 0; i < bits.size(); ++i) {
      ASSERT_EQ(bits[i], tensor.first_site + channel * order.bits() + i) << tensor.name;
      ASSERT_EQ(space.at(bits[i]).tensor, t);
      ASSERT_EQ(space.at(bits[i]).element / tensor.row, channel);
    }
    EXPECT_THROW(order.at(order.bits()), Bug);
  }
}

TEST(ChannelFaults, MoreTrialsExtendTheSampleAndTheTrialAloneDecides) {
  const FaultSpace space(test::residual_net());
  const ChannelFaults sampler{space.tensors()[0].name.substr(0, space.tensors()[0].name.rfind('.')),
                              1};
  ChannelOrder whole(sampler, space, {kSeed, 5}), backwards(sampler, space, {kSeed, 5});
  whole.at(whole.bits() - 1);
  backwards.at(19);
  for (std::uint64_t trial = 20; trial-- > 0;) {
    EXPECT_EQ(backwards.at(trial), whole.at(trial));
    const Faults faults = draw(sampler, space, {kSeed, 5, trial});
    EXPECT_EQ(bits_of(space, faults), std::vector<std::uint64_t>{whole.at(trial)});
  }
  EXPECT_NE(ChannelOrder(sampler, space, {kSeed, 6}).at(0), whole.at(0));
  EXPECT_NE(ChannelOrder(sampler, space, {kSeed + 1, 5}).at(0), whole.at(0));
}

// The numbers come from a separate implementation in Python, which shuffles the whole array.
TEST(ChannelFaults, KnownAnswer) {
  const FaultSpace space = tiny_space();
  std::vector<std::uint64_t> bits;
  for (std::uint64_t trial = 0; trial < 8; ++trial)
    bits.push_back(bits_of(space, draw(ChannelFaults{"conv", 1}, space, {42, 3, trial})).at(0));
  EXPECT_EQ(bits, (std::vector<std::uint64_t>{220, 241, 170, 165, 180, 143, 225, 166}));
}

// Any trial by itself is uniform over the channel's bits, whatever the trials before it took.
TEST(ChannelFaults, EveryTrialIsUniform) {
  const FaultSpace space = tiny_space();
  constexpr std::uint64_t kSeeds = 20000, kBits = 128;
  for (const std::uint64_t trial : {0u, 1u, 100u, 127u}) {
    std::vector<double> hits(kBits, 0);
    for (std::uint64_t seed = 0; seed < kSeeds; ++seed)
      ++hits[ChannelOrder({"conv", 0}, space, {seed, 0}).at(trial)];
    double statistic = 0;
    constexpr double kMean = static_cast<double>(kSeeds) / kBits;
    for (const double count : hits) statistic += (count - kMean) * (count - kMean) / kMean;
    EXPECT_LT(std::abs(statistic - (kBits - 1)) / std::sqrt(2.0 * (kBits - 1)), 5) << trial;
  }
}

TEST(ChannelFaults, RefusesOtherLayersAndChannelsAndNamesItself) {
  const FaultSpace space = tiny_space();
  EXPECT_THROW(draw(ChannelFaults{"conv2", 0}, space, {kSeed}), UserError);
  EXPECT_THROW(draw(ChannelFaults{"conv", 2}, space, {kSeed}), UserError);
  EXPECT_THROW(draw(ChannelFaults{"conv", -1}, space, {kSeed}), UserError);
  EXPECT_EQ(sampler_name(ChannelFaults{"layer1.0.conv1", 12}), "channel:layer1.0.conv1:12");
  EXPECT_EQ(sampler_ber(ChannelFaults{"conv", 1}), 0);
  EXPECT_EQ(expected_faults(ChannelFaults{"conv", 1}, space), (std::vector<double>{1, 0}));
}

TEST(DrawPaired, EqualsDrawOnTheOriginal) {
  const Graph graph = test::residual_net();
  const FaultSpace space(graph);
  const SiteMap map(graph, graph);
  for (std::uint64_t trial = 0; trial < 20; ++trial) {
    const RngKey key{kSeed, 0, trial};
    EXPECT_EQ(draw_paired({1e-3}, {}, draw(BinomialFaults{1e-3}, space, key), map, space, key),
              draw(BinomialFaults{1e-3}, space, key));
  }
}

TEST(DrawPaired, SharesTheOriginalsAndHitsCopiesIndependently) {
  const Graph graph = test::residual_net();
  const Graph hard = test::hardened(graph, test::random_images(4).images);
  const FaultSpace original(graph), model(hard);
  const SiteMap map(graph, hard);
  const double ber = 2e-3;
  const auto copy_bits = static_cast<double>(model.sites() - original.sites());
  double copies = 0;
  std::vector<std::size_t> copies_of(model.tensors().size(), 0);
  constexpr int kTrials = 2000;
  for (std::uint64_t trial = 0; trial < kTrials; ++trial) {
    const RngKey key{kSeed, 0, trial};
    const Faults paired =
        draw_paired({ber}, {}, draw(BinomialFaults{ber}, original, key), map, model, key);
    expect_sorted_distinct(paired);
    Faults shared;
    for (const FaultSite& site : paired) {
      model.index(site);
      if (site.element < model.tensors()[site.tensor].originals) {
        shared.push_back(site);
      } else {
        ++copies;
        ++copies_of[site.tensor];
      }
    }
    ASSERT_EQ(shared, draw(BinomialFaults{ber}, original, key));
  }
  EXPECT_NEAR(copies, copy_bits * ber * kTrials, 5 * std::sqrt(copy_bits * ber * kTrials));
  for (std::size_t i = 0; i < copies_of.size(); ++i) {
    const FaultTensor& tensor = model.tensors()[i];
    const double mean =
        static_cast<double>(tensor.elements - tensor.originals) * 32 * ber * kTrials;
    EXPECT_NEAR(static_cast<double>(copies_of[i]), mean, 5 * std::sqrt(mean)) << tensor.name;
  }
}

// Every copy bit is reached exactly once, in whatever tensor it lies.
TEST(DrawPaired, BerOneHitsEverything) {
  const Graph graph = test::residual_net();
  const Graph hard = test::hardened(graph, test::random_images(4).images);
  const FaultSpace original(graph), model(hard);
  EXPECT_EQ(draw_paired({1}, {}, draw(BinomialFaults{1}, original, {kSeed}), SiteMap(graph, hard),
                        model, {kSeed}),
            draw(BinomialFaults{1}, model, {kSeed}));
}

}  // namespace
}  // namespace sentinel
