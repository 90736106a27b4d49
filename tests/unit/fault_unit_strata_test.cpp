#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>
#include <optional>
#include <set>

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

constexpr std::uint64_t kSeed = 61;

/// With copies of channels, so that blocks of originals and of copies end apart.
Graph coded_net(const std::string& weights, const std::string& biases) {
  Graph graph = test::hardened(test::residual_net(), test::random_images(4).images, false);
  store(graph, TensorClass::kWeight, weights);
  store(graph, TensorClass::kBias, biases);
  return graph;
}

std::uint32_t bits_of(float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

struct Case {
  std::string weights;
  double ber;
  bool critical = false;  // bit 30 is counted
  std::string biases = "fp16+repeat:3";
};
void PrintTo(const Case& own, std::ostream* out) {
  *out << own.weights << " " << own.ber;
}

class UnitStrataOf : public ::testing::TestWithParam<Case> {
 protected:
  static Selection selection() {
    Selection all;
    all.targets = {TensorClass::kWeight, TensorClass::kBias, TensorClass::kCheck};
    return all;
  }
  /// Blocks that are read wrongly, or words whose bit 30 became 1, and words of repeat.
  std::size_t count(const Faults& faults) const {
    const Reading reading = memory.read(space, faults);
    const bool alone = block_shape(parse_layout(GetParam().weights)).words == 1;
    if (alone && !GetParam().critical) return reading.words_wrong;
    std::set<std::pair<std::uint32_t, std::uint64_t>> units;
    for (const ReadChange& change : reading.changes) {
      const StoredTensor& tensor = memory.tensors()[change.stored];
      if (counts_critical(tensor) &&
          ((bits_of(change.clean) >> 30 & 1) != 0 || (bits_of(change.faulty) >> 30 & 1) == 0))
        continue;
      const auto words = static_cast<std::uint64_t>(block_shape(tensor.layout).words);
      const bool copy = change.element >= tensor.originals;
      const std::uint64_t own = change.element - (copy ? tensor.originals : 0);
      const std::uint64_t rest =
          (copy ? tensor.values : tensor.originals) - (copy ? tensor.originals : 0);
      const bool coded = own < rest / words * words || codes_incomplete_blocks(tensor.layout);
      units.insert(
          {change.stored, (copy ? 1u << 30 : 0) + (coded ? own / words : (1u << 29) + own)});
    }
    return units.size();
  }
  bool counts_critical(const StoredTensor& tensor) const {
    return GetParam().critical && (!tensor.layout.code || leaves_bits_bare(tensor.layout));
  }

  Graph graph = coded_net(GetParam().weights, GetParam().biases);
  FaultSpace space{graph, selection()};
  Memory memory{graph};
  double ber = GetParam().ber;
  StratifiedSampler sampler{BinomialFaults{ber}, {{graph, space}}};
};

TEST_P(UnitStrataOf, EachHoldsItsNumber) {
  ASSERT_TRUE(sampler.divides());
  const Strata& strata = sampler.strata();
  EXPECT_NEAR(std::accumulate(strata.weights.begin(), strata.weights.end(), 0.0), 1,
              test::kDoubles);
  EXPECT_EQ(strata.costs.back() == 0, !GetParam().critical);
  for (std::size_t h = 0; h < strata.names.size(); ++h)
    for (std::uint64_t trial = 0; trial < 25; ++trial) {
      const RngKey key{kSeed, 1, trial};
      const std::size_t found = count(sampler.draw(space, static_cast<std::int32_t>(h), key));
      if (strata.costs[h] == 0) {
        ASSERT_EQ(found, 0u);
        continue;
      }
      const auto [first, last] = test::numbers_of(strata.names[h]);
      if (first > 1) {
        ASSERT_GE(strata.weights[h], 0.01) << "it costs more trials than it tells";
      }
      ASSERT_GE(found, first) << strata.names[h];
      ASSERT_LE(found, last) << strata.names[h];
    }
}

/// Mixed by their weights the strata give back the plain sampler: flips by tensor and by bit, words
/// by their number of flips, and the mean number of what is counted.
TEST_P(UnitStrataOf, MixtureHasTheLawOfTheWhole) {
  constexpr int kDraws = 600, kFlips = 6;
  const Strata& strata = sampler.strata();
  std::vector<double> by_tensor(space.tensors().size()), by_bit(64), words(kFlips);
  double found = 0;
  const auto add = [&](const Faults& faults, double share) {
    for (std::size_t begin = 0, end = 0; begin < faults.size(); begin = end) {
      for (; end < faults.size() && faults[end].tensor == faults[begin].tensor &&
             faults[end].element == faults[begin].element;
           ++end) {
        by_tensor[faults[end].tensor] += share;
        by_bit[faults[end].bit] += share;
      }
      words[std::min<std::size_t>(end - begin, kFlips - 1)] += share;
    }
    found += share * static_cast<double>(count(faults));
  };
  for (std::size_t h = 0; h < strata.weights.size(); ++h)
    for (std::uint64_t trial = 0; trial < kDraws; ++trial)
      add(sampler.draw(space, static_cast<std::int32_t>(h), {kSeed, 2, trial}),
          strata.weights[h] / kDraws);
  const auto near = [](double own, double wanted) {
    EXPECT_NEAR(own, wanted, 5 * std::sqrt(wanted / kDraws) + test::kDoubles);
  };
  std::vector<double> sites_of_bit(64), with_flips(kFlips);
  for (std::size_t t = 0; t < by_tensor.size(); ++t) {
    const FaultTensor& tensor = space.tensors()[t];
    near(by_tensor[t], ber * static_cast<double>(tensor.sites()));
    for (const std::uint8_t bit : tensor.bits)
      sites_of_bit[bit] += static_cast<double>(tensor.selected);
    double ways = 1;
    for (int flips = 0; flips <= tensor.word_bits; ++flips) {
      with_flips[static_cast<std::size_t>(std::min(flips, kFlips - 1))] +=
          static_cast<double>(tensor.selected) * ways * std::pow(ber, flips) *
          std::pow(1 - ber, tensor.word_bits - flips);
      ways *= static_cast<double>(tensor.word_bits - flips) / (flips + 1);
    }
  }
  for (std::size_t bit = 0; bit < 64; ++bit) near(by_bit[bit], ber * sites_of_bit[bit]);
  for (std::size_t flips = 1; flips < kFlips; ++flips) near(words[flips], with_flips[flips]);

  double plain = 0;
  constexpr int kPlain = 1500;
  for (std::uint64_t trial = 0; trial < kPlain; ++trial)
    plain +=
        static_cast<double>(count(sentinel::draw(BinomialFaults{ber}, space, {kSeed, 3, trial}))) /
        kPlain;
  EXPECT_NEAR(found, plain, 5 * std::sqrt(plain * (1.0 / kDraws + 1.0 / kPlain)));
}

INSTANTIATE_TEST_SUITE_P(
    Codes, UnitStrataOf,
    ::testing::Values(Case{"int8+secded:64", 3e-4}, Case{"int4+secded:128", 3e-4},
                      Case{"fp16+secded:64,zero", 3e-4}, Case{"fp32+spw", 3e-4},
                      Case{"int8+spw", 1e-3}, Case{"int7+zero-space", 2e-4},
                      Case{"fp32+mset", 1e-2, true}, Case{"fp32+cep:d3", 1e-2, true},
                      Case{"fp32+parity", 5e-3, true}, Case{"fp32+tmr:sign-exponent", 1e-2, true},
                      Case{"fp32+mset", 1e-2, true, "fp32"}));

Selection of(std::vector<TensorClass> targets) {
  Selection selection;
  selection.targets = std::move(targets);
  return selection;
}

const std::vector<TensorClass> kAll = {TensorClass::kWeight, TensorClass::kBias,
                                       TensorClass::kScale, TensorClass::kCheck};

/// Single flips in words of several layouts.
class BitStrataOf : public ::testing::Test {
 protected:
  void make(const std::string& weights, const std::string& biases) {
    graph = coded_net(weights, biases);
    space.emplace(graph, of(kAll));
    memory.emplace(graph);
    sampler.emplace(ExactFaults{1}, std::vector<SpaceOfNetwork>{{graph, *space}});
  }
  Graph graph;
  std::optional<FaultSpace> space;
  std::optional<Memory> memory;
  std::optional<StratifiedSampler> sampler;
};

TEST_F(BitStrataOf, SeveralLayoutsNameThem) {
  make("int8", "fp32");
  const Strata& strata = sampler->strata();
  EXPECT_EQ(strata.names,
            (std::vector<std::string>{"int8:channel: bit 7", "int8:channel: bit 6",
                                      "int8:channel: bit 5", "int8:channel: bits 4-0",
                                      "fp32: bit 30", "fp32: bits 29-27", "fp32: bits 26-23",
                                      "fp32: bit 31", "fp32: bits 22-19", "fp32: bits 18-0"}));
  EXPECT_NEAR(std::accumulate(strata.weights.begin(), strata.weights.end(), 0.0), 1,
              test::kDoubles);
  EXPECT_NEAR(strata.weights[3] / strata.weights[0], 5, test::kDoubles);
}

/// The known stratum changes nothing, every other some value; and the shares are
/// those of the sites.
TEST_F(BitStrataOf, TheLastIsWhatCodesCorrect) {
  for (const auto& [weights, biases] :
       std::vector<std::pair<std::string, std::string>>{{"int8+secded:64", "fp32"},
                                                        {"fp32+spw", "fp32+tmr:31,30"},
                                                        {"int7+zero-space", "fp16+repeat:3"},
                                                        {"fp32+tmr:sign-exponent", "fp32"}}) {
    ASSERT_EQ(misfit(TensorClass::kBias, parse_layout(biases)), "");
    SCOPED_TRACE(weights + " " + biases);
    make(weights, biases);
    ASSERT_TRUE(sampler->divides());
    const Strata& strata = sampler->strata();
    ASSERT_EQ(strata.names.back(), "bits that a code corrects");
    EXPECT_EQ(strata.costs.back(), 0);
    std::vector<int> silent(strata.names.size());
    for (std::size_t h = 0; h < strata.names.size(); ++h)
      for (std::uint64_t trial = 0; trial < 100; ++trial) {
        const Faults faults =
            sampler->draw(*space, static_cast<std::int32_t>(h), {kSeed, 5, trial});
        ASSERT_EQ(faults.size(), 1u);
        space->index(faults[0]);
        const Reading reading = memory->read(*space, faults);
        silent[h] += reading.words_wrong == 0 && reading.changes.empty() ? 1 : 0;
      }
    EXPECT_EQ(silent.back(), 100);
    for (std::size_t h = 0; h + 1 < silent.size(); ++h) EXPECT_EQ(silent[h], 0) << strata.names[h];
    double found = 0;  // of all sites
    constexpr int kPlain = 4000;
    for (std::uint64_t trial = 0; trial < kPlain; ++trial) {
      const Reading reading = memory->read(*space, sampler->draw(*space, -1, {kSeed, 6, trial}));
      found += reading.words_wrong == 0 && reading.changes.empty() ? 1.0 / kPlain : 0;
    }
    const double share = strata.weights.back();
    EXPECT_NEAR(found, share, 5 * std::sqrt(share * (1 - share) / kPlain) + test::kDoubles);
  }
}

/// Every site belongs to one stratum; the copies of channels end with a word that is not coded.
TEST(BitStrata, TogetherAreAllSites) {
  const Graph graph = coded_net("int7+zero-space", "fp32");
  Selection selection = of({TensorClass::kWeight});
  selection.layers = {"conv1"};
  const FaultSpace space(graph, selection);
  const StratifiedSampler sampler(ExactFaults{1}, {{graph, space}});
  const Strata& strata = sampler.strata();
  ASSERT_EQ(strata.names.size(), 5u);
  EXPECT_EQ(strata.names.front(), "int7:channel+zero-space, blocks that are not complete: bit 7");
  std::set<std::uint64_t> all;
  for (std::size_t h = 0; h < strata.names.size(); ++h) {
    std::set<std::uint64_t> own;
    for (std::uint64_t trial = 0; trial < 60000; ++trial)
      own.insert(
          space.index(sampler.draw(space, static_cast<std::int32_t>(h), {kSeed, 7, trial})[0]));
    all.insert(own.begin(), own.end());
    EXPECT_EQ(strata.weights[h],
              static_cast<double>(own.size()) / static_cast<double>(space.sites()));
  }
  EXPECT_EQ(all.size(), space.sites());
}

TEST(BitStrata, AreOfOneNetworkWhereLayoutsDiffer) {
  const Graph graph = coded_net("int8", "fp32");
  const FaultSpace space(graph, of(kAll));
  EXPECT_TRUE(StratifiedSampler(ExactFaults{1}, {{graph, space}}).divides());
  EXPECT_FALSE(StratifiedSampler(ExactFaults{1}, {{graph, space}}, {}, true).divides());
}

/// Blocks and check words count, and parts of blocks do not.
TEST(AnyMisread, IsToldOfEveryCode) {
  const Graph graph = coded_net("int8+secded:64", "fp16+repeat:3");
  const FaultSpace weights(graph), both(graph, of({TensorClass::kWeight, TensorClass::kCheck}));
  double blocks = 0, tensors = 0;
  for (const FaultTensor& tensor : both.tensors())
    if (tensor.kind == TensorClass::kCheck) {
      blocks += static_cast<double>(tensor.elements);
      ++tensors;
    }
  const double p = 1e-7;
  // Pairs of 64 bits. The last block of a tensor may be shorter; triples are 62 p / 3 of the pairs.
  EXPECT_NEAR(*any_misread(weights, p) / (blocks * 2016 * p * p), 1, tensors / blocks);
  EXPECT_NEAR(*any_misread(both, p) / (blocks * 2528 * p * p), 1, tensors / blocks);
  Selection channels;
  channels.channels = {{"conv1", {{0, 1}}}};
  EXPECT_FALSE(any_misread(FaultSpace(graph, channels), p));
  EXPECT_FALSE(any_misread(FaultSpace(graph, of({TensorClass::kCheck})), p));
}

}  // namespace
}  // namespace sentinel
