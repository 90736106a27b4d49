#include <gmock/gmock.h>

#include <cmath>
#include <map>
#include <numeric>

#include "sentinel/core/error.hpp"
#include "sentinel/fault/strata.hpp"
#include "unit/fault_nets.hpp"
#include "unit/tolerances.hpp"

namespace sentinel {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Selection parameters() {
  Selection selection;
  selection.targets = parse_targets({"parameters"});
  return selection;
}

struct Net {
  explicit Net(Graph of, const Selection& selection = {})
      : graph(std::move(of)), space(graph, selection) {}
  operator SpaceOfNetwork() const { return {graph, space}; }
  Graph graph;
  FaultSpace space;
};

/// The sites of a stratum by what they are called.
bool is_in(const FaultSpace& space, DivideBy by, const std::string& stratum,
           const FaultSite& site) {
  const FaultTensor& tensor = space.tensors()[site.tensor];
  if (by == DivideBy::kLayer) return tensor.name == stratum;
  if (by == DivideBy::kClass) return class_name(tensor.kind) == stratum;
  const bool check = tensor.kind == TensorClass::kCheck;
  const std::string bit = "bit " + std::to_string(site.bit);
  return stratum == bit || stratum == layout_name(tensor.layout) + (check ? " check " : " ") + bit;
}

/// Draws of every stratum lie in it, and are uniform by chi^2 over groups of its sites.
void expect_uniform(const Net& net, DivideBy by, std::size_t network,
                    const StratifiedSampler& division) {
  constexpr std::uint64_t kGroups = 16, kDraws = 3200;
  const Strata& strata = division.strata();
  const std::vector<double> weights = division.weights(network);
  double whole = 0;
  for (std::size_t h = 0; h < strata.names.size(); ++h) {
    std::vector<std::uint64_t> sites;
    for (std::uint64_t i = 0; i < net.space.sites(); ++i)
      if (is_in(net.space, by, strata.names[h], net.space.at(i))) sites.push_back(i);
    const double weight = weights[h];
    EXPECT_DOUBLE_EQ(weight, double(sites.size()) / double(net.space.sites())) << strata.names[h];
    whole += weight;
    const std::uint64_t groups = std::min<std::uint64_t>(kGroups, sites.size());
    std::vector<double> hits(groups), expected(groups);
    for (std::size_t i = 0; i < sites.size(); ++i)
      expected[i * groups / sites.size()] += double(kDraws) / double(sites.size());
    for (std::uint64_t trial = 0; trial < kDraws && !sites.empty(); ++trial) {
      const RngKey key{7, 0, trial};
      const auto stratum = static_cast<std::int32_t>(h);
      const Faults faults = division.draw(net.space, stratum, key, network);
      ASSERT_EQ(faults.size(), 1u);
      EXPECT_EQ(faults, division.draw(net.space, stratum, key, network));
      const auto place = std::lower_bound(sites.begin(), sites.end(), net.space.index(faults[0]));
      ASSERT_TRUE(place != sites.end() && *place == net.space.index(faults[0])) << strata.names[h];
      ++hits[static_cast<std::size_t>(place - sites.begin()) * groups / sites.size()];
    }
    double chi2 = 0;
    for (std::size_t g = 0; g < groups; ++g)
      if (!sites.empty()) chi2 += std::pow(hits[g] - expected[g], 2) / expected[g];
    EXPECT_LT(chi2, 44.3) << strata.names[h] << ": 1 in 10 000 at 15 degrees of freedom";
  }
  EXPECT_NEAR(whole, 1, test::kDoubles);
}

TEST(PartStrata, ByLayerIsTheStoredTensorsInTheirOrder) {
  const Net net(test::residual_net());
  const StratifiedSampler division(DivideBy::kLayer, {net});
  std::vector<std::string> names;
  for (const FaultTensor& tensor : net.space.tensors()) names.push_back(tensor.name);
  EXPECT_EQ(division.strata().names, names);
  expect_uniform(net, DivideBy::kLayer, 0, division);
  // Channels that lie behind cost less.
  EXPECT_GT(division.strata().costs.front(), division.strata().costs.back());
  EXPECT_GT(division.strata().costs.back(), 0);
}

TEST(PartStrata, ByClass) {
  const Net net(test::residual_net(), parameters());
  const StratifiedSampler division(DivideBy::kClass, {net});
  EXPECT_THAT(division.strata().names, ElementsAre("weight", "bias", "bn"));
  expect_uniform(net, DivideBy::kClass, 0, division);
}

TEST(PartStrata, ByBitOfOneLayoutNamesBitsAlone) {
  Selection exponent;
  exponent.bits = {"30", "23-25"};
  const Net net(test::residual_net(), exponent);
  const StratifiedSampler division(DivideBy::kBit, {net});
  EXPECT_THAT(division.strata().names, ElementsAre("bit 23", "bit 24", "bit 25", "bit 30"));
  expect_uniform(net, DivideBy::kBit, 0, division);
}

TEST(PartStrata, ByBitOfSeveralLayoutsNamesThem) {
  Graph graph = test::plain_net();
  store_as(graph, "features.0.weight", parse_layout("int8:channel+secded:64"));
  const Net net(std::move(graph), parameters());
  const StratifiedSampler division(DivideBy::kBit, {net});
  const std::vector<std::string>& names = division.strata().names;
  EXPECT_EQ(names.size(), 8u + 8 + 32);
  EXPECT_EQ(names.at(0), "int8:channel+secded:64 bit 0");
  EXPECT_THAT(names, ::testing::Contains("int8:channel+secded:64 check bit 7"));
  EXPECT_THAT(names, ::testing::Contains("fp32 bit 31"));
  expect_uniform(net, DivideBy::kBit, 0, division);
}

/// A protected network has more of some strata, and strata of its own.
TEST(PartStrata, EachNetworkHasItsOwnShares) {
  Graph graph = test::plain_net();
  for (NodeId node = 0; node < graph.size(); ++node)
    if (graph[node].name == "features.3")
      graph[node].op =
          test::duplicate(std::get<Conv>(graph[node].op), {1, 4, 6}, at::ones({1, 12, 6, 6}));
  for (NodeId node = 0; node < graph.size(); ++node)
    if (graph[node].name == "features.1")
      graph[node].op = BoundedActivation{at::ones({8}), Clipping::kRanger};
  const Net original(test::plain_net(), parameters()), hard(std::move(graph), parameters());
  const StratifiedSampler division(DivideBy::kLayer, {original, hard});
  const std::vector<std::string>& names = division.strata().names;
  const auto place = [&](const std::string& name) {
    return static_cast<std::size_t>(std::find(names.begin(), names.end(), name) - names.begin());
  };
  expect_uniform(original, DivideBy::kLayer, 0, division);
  expect_uniform(hard, DivideBy::kLayer, 1, division);
  const std::size_t bound = place("features.1.bound"), conv = place("features.3.weight");
  ASSERT_LT(bound, names.size());
  EXPECT_EQ(division.weights(0)[bound], 0);
  EXPECT_GT(division.weights(1)[bound], 0);
  EXPECT_GT(division.weights(1)[conv], division.weights(0)[conv]);
  EXPECT_EQ(division.strata().costs[bound], 1);
  EXPECT_TRUE(division.draw(original.space, static_cast<std::int32_t>(bound), {1, 0, 0}).empty());
}

TEST(PartStrata, WordsHaveNoBits) {
  Selection words;
  words.words = true;
  const Net net(test::residual_net(), words);
  expect_uniform(net, DivideBy::kLayer, 0, StratifiedSampler(DivideBy::kLayer, {net}));
  try {
    StratifiedSampler(DivideBy::kBit, {net});
    FAIL() << "no error";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), HasSubstr("these faults hit whole words"));
  }
}

}  // namespace
}  // namespace sentinel
