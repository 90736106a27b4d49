#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "sentinel/fault/memory.hpp"
#include "sentinel/fault/space_codes.hpp"
#include "sentinel/fault/strata.hpp"
#include "sentinel/words/misreads.hpp"
#include "unit/fault_nets.hpp"
#include "unit/strata_support.hpp"
#include "unit/tolerances.hpp"

namespace sentinel {
namespace {

using test::store;

constexpr std::uint64_t kSeed = 57;

/// Weights and biases in two codes.
Graph coded_net(const std::string& weights) {
  Graph graph = test::residual_net();
  store(graph, TensorClass::kWeight, weights);
  store(graph, TensorClass::kBias, "fp16+repeat:3");
  return graph;
}

struct Case {
  std::string weights;
  double ber;
};

class WordStrataOf : public ::testing::TestWithParam<Case> {
 protected:
  static Selection selection() {
    Selection all;
    all.targets = {TensorClass::kWeight, TensorClass::kBias};
    return all;
  }
  std::uint32_t words_wrong(const Faults& faults) const {
    return memory.read(space, faults).words_wrong;
  }
  std::size_t sampled() const { return sampler.strata().weights.size() - 1; }

  Graph graph = coded_net(GetParam().weights);
  FaultSpace space{graph, selection()};
  Memory memory{graph};
  double ber = GetParam().ber;
  StratifiedSampler sampler{BinomialFaults{ber}, {{graph, space}}};
};

double mean_wrong(const FaultSpace& space, double ber) {
  double mean = 0;
  for (const FaultTensor& tensor : space.tensors())
    mean += static_cast<double>(tensor.selected) / block_shape(tensor.layout).copies *
            Misreads::of(tensor.layout).of_word(ber);
  return mean;
}

TEST_P(WordStrataOf, WeightsAreThoseOfTheCountAndTheLastIsKnown) {
  ASSERT_TRUE(sampler.divides());
  const Strata& strata = sampler.strata();
  EXPECT_NEAR(std::accumulate(strata.weights.begin(), strata.weights.end(), 0.0), 1,
              test::kDoubles);
  EXPECT_EQ(strata.names.back(), "all words read right");
  for (std::size_t h = 0; h < strata.costs.size(); ++h)
    EXPECT_EQ(strata.costs[h] == 0, h + 1 == strata.costs.size());
  EXPECT_NEAR(strata.weights.back(), 1 - *any_misread(space, ber), test::kDoubles);
}

TEST_P(WordStrataOf, EachHoldsItsNumberOfWordsReadWrongly) {
  const StratifiedSampler again(BinomialFaults{ber}, {{graph, space}});
  for (std::size_t h = 0; h <= sampled(); ++h)
    for (std::uint64_t trial = 0; trial < 20; ++trial) {
      const RngKey key{kSeed, 1, trial};
      const Faults faults = sampler.draw(space, static_cast<std::int32_t>(h), key);
      const std::uint32_t wrong = words_wrong(faults);  // a Bug where they are not sorted
      const auto [first, last] = h < sampled() ? test::numbers_of(sampler.strata().names[h])
                                               : std::pair<std::size_t, std::size_t>();
      ASSERT_GE(wrong, first);
      ASSERT_LE(wrong, last);
      ASSERT_EQ(faults, again.draw(space, static_cast<std::int32_t>(h), key));
    }
}

/// Mixed by their weights the strata give back the plain sampler.
TEST_P(WordStrataOf, MixtureHasTheLawOfTheWhole) {
  constexpr int kDraws = 400;
  const Strata& strata = sampler.strata();
  double faults = 0, square = 0, wrong = 0, wrong_square = 0;
  std::vector<double> by_tensor(space.tensors().size()), by_bit(64);
  for (std::size_t h = 0; h < strata.weights.size(); ++h)
    for (std::uint64_t trial = 0; trial < kDraws; ++trial) {
      const double share = strata.weights[h] / kDraws;
      const Faults drawn = sampler.draw(space, static_cast<std::int32_t>(h), {kSeed, 2, trial});
      for (const FaultSite& site : drawn) {
        by_tensor[site.tensor] += share;
        by_bit[site.bit] += share;
      }
      const auto size = static_cast<double>(drawn.size());
      faults += share * size;
      square += share * size * size;
      const double own = words_wrong(drawn);
      wrong += share * own;
      wrong_square += share * own * own;
    }
  const double mean = ber * static_cast<double>(space.sites()), expected = mean_wrong(space, ber);
  const auto near = [](double found, double wanted) {
    EXPECT_NEAR(found, wanted, 5 * std::sqrt(wanted / kDraws));
  };
  near(faults, mean);
  EXPECT_NEAR((square - faults * faults) / (mean * (1 - ber)), 1, 0.3);
  near(wrong, expected);
  // Words are read wrongly each with a small probability: nearly Poisson.
  EXPECT_NEAR((wrong_square - wrong * wrong) / expected, 1, 0.3);
  std::vector<double> sites_of_bit(64);
  for (std::size_t t = 0; t < by_tensor.size(); ++t) {
    const FaultTensor& tensor = space.tensors()[t];
    near(by_tensor[t], ber * static_cast<double>(tensor.sites()));
    for (const std::uint8_t bit : tensor.bits)
      sites_of_bit[bit] += static_cast<double>(tensor.selected);
  }
  for (std::size_t bit = 0; bit < 64; ++bit) near(by_bit[bit], ber * sites_of_bit[bit]);
}

/// Which words are wrong, against the plain sampler.
TEST_P(WordStrataOf, WrongWordsAreSpreadByTheirProbabilities) {
  constexpr std::uint64_t kDraws = 500;
  std::vector<double> expected(space.tensors().size()), found(expected.size());
  const double all = mean_wrong(space, ber);
  for (std::size_t t = 0; t < expected.size(); ++t) {
    const FaultTensor& tensor = space.tensors()[t];
    expected[t] = static_cast<double>(tensor.selected) / block_shape(tensor.layout).copies *
                  Misreads::of(tensor.layout).of_word(ber) / all;
  }
  double words = 0;
  for (std::uint64_t trial = 0; trial < kDraws; ++trial) {
    const Reading reading = memory.read(space, sampler.draw(space, 0, {kSeed, 3, trial}));
    words += reading.words_wrong;
    for (std::size_t t = 0; t < found.size(); ++t)
      for (const ReadChange& change : reading.changes)
        found[t] += change.stored == space.tensors()[t].stored ? 1 : 0;
  }
  // A word may be read as another of the same value, or flagged where it is 0: seldom.
  for (std::size_t t = 0; t < found.size(); ++t) {
    const double wanted = expected[t] * words;
    EXPECT_NEAR(found[t], wanted, 5 * std::sqrt(wanted) + 0.12 * wanted) << t;
  }
}

INSTANTIATE_TEST_SUITE_P(Codes, WordStrataOf,
                         ::testing::Values(Case{"int4+bch:8,4", 3e-3}, Case{"int5+bch:16,5", 2e-2},
                                           Case{"int6+bch:32,6", 0.04}, Case{"int8+repeat:3", 3e-3},
                                           Case{"int8+repeat:5", 1e-2}, Case{"int8", 1e-4}));

TEST(WordStrata, NoneWhereTheCodeDoesNotTell) {
  const auto divides = [](const std::string& layout, double ber, Selection selection = {}) {
    Graph graph = test::residual_net();
    store(graph, TensorClass::kWeight, layout);
    const FaultSpace space(graph, selection);
    return StratifiedSampler(BinomialFaults{ber}, {{graph, space}}).divides();
  };
  EXPECT_TRUE(divides("int4+bch:8,4", 1e-3));
  EXPECT_FALSE(divides("int4+bch:8,4", 0.5));
  EXPECT_TRUE(divides("int8+secded:64", 1e-4));
  EXPECT_TRUE(divides("fp32+mset", 1e-2));
  EXPECT_FALSE(divides("int8+parity", 1e-2)) << "every word is hit, and none has a critical bit";
  Selection bits;
  bits.bits = {"0-2"};
  EXPECT_FALSE(divides("int4+bch:8,4", 1e-3, bits));
}

TEST(SpaceCodes, TellWhereEverySingleFlipIsCorrected) {
  const auto layouts = [](const std::string& weights, std::vector<TensorClass> targets) {
    Graph graph = coded_net(weights);
    Selection selection;
    selection.targets = std::move(targets);
    return correcting_layouts(FaultSpace(graph, selection));
  };
  const TensorClass weight = TensorClass::kWeight, bias = TensorClass::kBias;
  EXPECT_EQ(layouts("int4+bch:8,4", {weight, bias}), "fp16+repeat:3, int4:channel+bch:8,4");
  EXPECT_EQ(layouts("int8+secded:64", {weight, TensorClass::kCheck}), "int8:channel+secded:64");
  EXPECT_EQ(layouts("int4+bch:8,4", {weight, TensorClass::kScale}), "");
  EXPECT_EQ(layouts("fp32+mset", {weight}), "");
  EXPECT_EQ(layouts("fp32", {bias}), "fp16+repeat:3");
}

TEST(BitStrata, OfCorrectedBitsAreKnown) {
  Graph graph = test::residual_net();
  store(graph, TensorClass::kWeight, "fp32+mset");
  const FaultSpace space(graph);
  const Memory memory(graph);
  const StratifiedSampler sampler(ExactFaults{1}, {{graph, space}});
  const Strata& strata = sampler.strata();
  EXPECT_EQ(strata.names.front(), "bits 29-27");
  EXPECT_EQ(strata.names.back(), "bit 30, corrected");
  EXPECT_EQ(strata.weights.back(), 1.0 / 32);
  EXPECT_EQ(strata.costs.back(), 0);
  EXPECT_EQ(strata.costs.front(), 1);
  const auto last = static_cast<std::int32_t>(strata.names.size()) - 1;
  for (std::uint64_t trial = 0; trial < 50; ++trial) {
    const auto wrong = [&](std::int32_t h) {
      return memory.read(space, sampler.draw(space, h, {kSeed, 4, trial})).words_wrong;
    };
    EXPECT_EQ(wrong(last), 0u);
    EXPECT_EQ(wrong(0), 1u);
  }
  Selection corrected;
  corrected.bits = {"30"};
  EXPECT_EQ(correcting_layouts(FaultSpace(graph, corrected)), "fp32+mset");
}

TEST(SpaceCodes, BoundWhatMayBeReadWrongly) {
  const Graph graph = coded_net("int6+bch:32,6");
  const FaultSpace space(graph);
  const double q = Misreads::of(parse_layout("int6+bch:32,6")).of_word(1e-2);
  const auto words =
      static_cast<double>(space.tensors().back().first_site / 32 + space.tensors().back().elements);
  ASSERT_LT(words * q, 2e-6);  // 1 - (1 - q)^words is words * q, less half its square
  EXPECT_NEAR(*any_misread(space, 1e-2) / (words * q), 1, 1e-6);
  EXPECT_EQ(*any_misread(space, 0), 0);
  EXPECT_EQ(*any_misread(space, 1), 1);
  // Nothing is coded: the trials are run.
  EXPECT_FALSE(any_misread(FaultSpace(test::residual_net()), 1e-12));
}

}  // namespace
}  // namespace sentinel
