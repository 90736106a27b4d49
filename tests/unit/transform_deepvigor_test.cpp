#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <optional>
#include <set>

#include "sentinel/core/error.hpp"
#include "sentinel/graph/profile.hpp"
#include "transform/deepvigor_deviations.hpp"
#include "transform/importance_methods.hpp"
#include "transform/layer_block.hpp"
#include "unit/deepvigor_support.hpp"

namespace sentinel {
namespace {

using test::balanced;
using test::grouped_net;
using test::noise;
using test::numbers;
using test::scores_of;

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// ---- the definition of docs/methods.md, word by word
// ---------------------------------------------------

float flipped(float value, int bit) {
  std::uint32_t word = 0;
  std::memcpy(&word, &value, sizeof word);
  word ^= 1U << bit;
  std::memcpy(&value, &word, sizeof word);
  return value;
}

/// What the network reads for a stored weight of a row.
double read_weight(const Conv& conv, std::int64_t row, float stored) {
  if (!conv.bounds.low.defined()) return stored;
  const auto of_row = [&](const at::Tensor& bound) {
    return (bound.dim() == 0 ? bound : bound[row]).item<float>();
  };
  const bool inside = stored >= of_row(conv.bounds.low) && stored <= of_row(conv.bounds.high);
  return inside ? stored : 0;
}

/// All deviations of a filter; input [N, C, H, W].
std::vector<double> deviations(const Conv& conv, std::int64_t channels, std::int64_t c,
                               const at::Tensor& input, std::int64_t height, std::int64_t width) {
  const auto x = input.accessor<float, 4>();
  const auto w = conv.weight.accessor<float, 4>();
  const std::int64_t group = c / (channels / conv.groups);
  std::vector<double> all;
  for (std::int64_t n = 0; n < x.size(0); ++n)
    for (std::int64_t oy = 0; oy < height; ++oy)
      for (std::int64_t ox = 0; ox < width; ++ox)
        for (std::int64_t i = 0; i < w.size(1); ++i)
          for (std::int64_t ky = 0; ky < w.size(2); ++ky)
            for (std::int64_t kx = 0; kx < w.size(3); ++kx) {
              const std::int64_t y = oy * conv.stride[0] - conv.padding[0] + ky * conv.dilation[0];
              const std::int64_t z = ox * conv.stride[1] - conv.padding[1] + kx * conv.dilation[1];
              const bool inside = y >= 0 && y < x.size(2) && z >= 0 && z < x.size(3);
              const double met = inside ? x[n][group * w.size(1) + i][y][z] : 0.0;
              for (int bit = 0; bit < 32; ++bit) {
                const double before = read_weight(conv, c, w[c][i][ky][kx]);
                const double after = read_weight(conv, c, flipped(w[c][i][ky][kx], bit));
                all.push_back((after - before) * met);
              }
            }
  return all;
}

double share_below(const std::vector<double>& deviations, double v) {
  std::size_t below = 0;
  for (const double d : deviations) below += (std::isnan(d) ? 1e4 : d) < v;
  return static_cast<double>(below) / static_cast<double>(deviations.size());
}

/// [image]: the first shift on one side that changes the arg max, tried in order.
std::vector<double> deltas(const Graph& graph, const Trace& trace, NodeId conv, std::int64_t c,
                           double sign) {
  const at::Tensor golden = trace.back().argmax(1);
  std::vector<double> found(static_cast<std::size_t>(golden.numel()), 0);
  for (int exponent = -10; exponent <= 10; ++exponent) {
    const double delta = sign * std::ldexp(1.0, exponent);
    Trace shifted = trace;
    at::Tensor& output = shifted[static_cast<std::size_t>(conv)];
    output = output.clone();
    output.select(1, c).add_(delta);
    const at::Tensor changed = run(graph, shifted, conv + 1).argmax(1) != golden;
    for (std::size_t i = 0; i < found.size(); ++i)
      if (found[i] == 0 && (changed[static_cast<std::int64_t>(i)].item<bool>() || exponent == 10))
        found[i] = delta;
  }
  return found;
}

/// `met` gathers the deltas that occur.
ChannelScores brute_force(const Graph& graph, const Dataset& images, std::set<double>& met) {
  const at::NoGradGuard no_grad;
  Trace trace{images.batch(0, images.size(), {}).images};
  run(graph, trace);
  const auto channels = channel_counts(graph);
  ChannelScores scores;
  for (NodeId id = 0; id < graph.size(); ++id) {
    const Conv* conv = as_conv(graph[id].op);
    if (!conv) continue;
    LayerScores layer{id, graph[id].name, {}};
    const std::int64_t count = channels[static_cast<std::size_t>(id)];
    const at::Tensor& input = trace[static_cast<std::size_t>(graph[id].inputs[0])];
    const at::Tensor& output = trace[static_cast<std::size_t>(id)];
    for (std::int64_t c = 0; c < count; ++c) {
      const auto all = deviations(*conv, count, c, input, output.size(2), output.size(3));
      const auto up = deltas(graph, trace, id, c, 1), down = deltas(graph, trace, id, c, -1);
      met.insert(up.begin(), up.end());
      met.insert(down.begin(), down.end());
      double sum = 0;
      for (std::size_t i = 0; i < up.size(); ++i)
        sum += share_below(all, up[i]) - share_below(all, down[i]);
      layer.scores.push_back(1 - sum / static_cast<double>(up.size()));
    }
    scores.push_back(std::move(layer));
  }
  return scores;
}

// ---- networks and images
// --------------------------------------------------------------------------

void expect_brute_force(Graph unbalanced, const Dataset& images) {
  const Graph graph = balanced(std::move(unbalanced), images);
  std::set<double> met;
  const auto expected = brute_force(graph, images, met), got = scores_of(graph, images, true);
  EXPECT_GT(std::count_if(met.begin(), met.end(), [](double delta) { return delta > 0; }), 5);
  EXPECT_GT(std::count_if(met.begin(), met.end(), [](double delta) { return delta < 0; }), 5);
  ASSERT_EQ(got.size(), expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i].node, expected[i].node);
    EXPECT_EQ(got[i].layer, expected[i].layer);
    ASSERT_EQ(got[i].scores.size(), expected[i].scores.size()) << got[i].layer;
    for (std::size_t c = 0; c < got[i].scores.size(); ++c) {
      // The same terms; only the order of the sum over images differs.
      EXPECT_NEAR(got[i].scores[c], expected[i].scores[c], 1e-13) << got[i].layer << " " << c;
      EXPECT_GE(got[i].scores[c], 0);
      EXPECT_LE(got[i].scores[c], 1);
    }
  }
}

TEST(DeepVigor, EqualsItsDefinitionOnResidualNets) {
  at::manual_seed(21);
  // More images than one block holds.
  expect_brute_force(test::plain_residual(), noise({3, 8, 8}, 34, 1));
  expect_brute_force(test::residual_graph(), noise({3, 8, 8}, 5, 2));
}

TEST(DeepVigor, EqualsItsDefinitionOnGroupedAndConcatenatedNets) {
  at::manual_seed(22);
  expect_brute_force(grouped_net(), noise({3, 9, 7}, 6, 3));
  Graph concat;  // test::concat_graph on three input channels
  const NodeId x = concat.add("x", Input{3, {8, 8}}, {});
  concat.add("stem", test::conv(8, 3, 3, 1, 1, true), {x});
  const Graph rest = test::concat_graph();
  for (NodeId id = 2; id < rest.size(); ++id)
    concat.add(rest[id].name, rest[id].op, rest[id].inputs);
  expect_brute_force(std::move(concat), noise({3, 8, 8}, 5, 4));
}

// ---- the distribution
// -----------------------------------------------------------------------------

TEST(DeepVigor, BinsAreThoseOfTheGrid) {
  std::vector<double> values = {0.0, -0.0, kNaN,   -kNaN,   kInf,  -kInf,
                                1e4, -1e4, 5e-324, -5e-324, 1e308, -1e308};
  for (std::size_t i = 0; i < kGridSize; ++i) {
    values.push_back(grid_value(i));
    values.push_back(std::nextafter(grid_value(i), -kInf));
    values.push_back(std::nextafter(grid_value(i), kInf));
    if (i > 0) {
      EXPECT_LT(grid_value(i - 1), grid_value(i));
      values.push_back((grid_value(i - 1) + grid_value(i)) / 2);
    }
  }
  EXPECT_EQ(grid_value(0), -1024);
  EXPECT_EQ(grid_value(kGridZero), 0);
  EXPECT_EQ(grid_value(kGridZero + 1), 0x1p-10);
  for (const double value : values) {
    std::size_t not_above = 0;
    for (std::size_t i = 0; i < kGridSize; ++i)
      not_above += grid_value(i) <= (std::isnan(value) ? 1e4 : value);
    EXPECT_EQ(deviation_bin(value), not_above) << value;
  }
}

TEST(DeepVigor, DeviationsOfSpecialValuesAreCountedOneByOne) {
  const std::vector<float> weights = {0.0F,   -0.0F, 1.0F,     -1.5F,    0.75F,
                                      1e-40F, 3e38F, 0x1p-10F, INFINITY, NAN};
  const std::vector<float> inputs = {0.0F,     -0.0F,     NAN,      INFINITY, -INFINITY, 1.0F,
                                     -1.0F,    0x1p-10F,  1024.0F,  -1e-41F,  3e38F,     0.3F,
                                     -0x1p-3F, 0x1.8p-2F, -1024.0F, 7.0F};
  const auto channels = static_cast<std::int64_t>(weights.size());
  Conv conv;
  conv.weight = at::tensor(weights).view({1, channels, 1, 1}).repeat({2, 1, 1, 1}).contiguous();
  conv.padding = {1, 0};
  const at::Tensor x = at::tensor(inputs).view({1, 1, 4, 4}).repeat({2, channels, 1, 1});
  std::vector<std::int64_t> positions(6 * 4);
  std::iota(positions.begin(), positions.end(), 0);
  const auto counts = count_deviations({conv, 2, x.contiguous(), {6, 4}}, 0, 2, positions);
  const auto all = deviations(conv, 2, 0, x, 6, 4);
  DeviationCounts expected{};
  for (const double d : all) {
    std::size_t bin = 0;
    for (std::size_t i = 0; i < kGridSize; ++i) bin += grid_value(i) <= (std::isnan(d) ? 1e4 : d);
    ++expected[bin];
  }
  EXPECT_EQ(counts.at(0), expected);
  EXPECT_EQ(counts.at(1), expected);
  const auto shares = shares_below(expected);
  for (std::size_t i = 0; i < kGridSize; ++i)
    EXPECT_EQ(shares[i], share_below(all, grid_value(i))) << i;
}

/// Two channels that nothing tells apart but where they are looked at.
Graph twin_channels() {
  at::manual_seed(31);
  Graph g;
  NodeId x = g.add("x", Input{3, {8, 8}}, {});
  Conv conv = test::conv(4, 3);
  conv.weight[1] = conv.weight[0];
  x = g.add("conv", conv, {x});
  x = g.add("relu", Activation{}, {x});
  x = g.add("pool", AdaptiveAvgPool{}, {x});
  x = g.add("flatten", Flatten{}, {x});
  Linear fc = test::linear(5, 4);
  fc.weight.select(1, 1).copy_(fc.weight.select(1, 0));
  g.add("fc", fc, {x});
  return g;
}

TEST(DeepVigor, LooksAtTheSamePositionsForAllChannelsOfALayer) {
  const Dataset images = test::quadrants(20, 31);
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    const auto scores = scores_of(twin_channels(), images, false, seed).at(0).scores;
    EXPECT_EQ(scores[0], scores[1]) << seed;
    EXPECT_NE(scores[0], scores[2]) << seed;
  }
}

// ---- random positions
// -----------------------------------------------------------------------------

TEST(DeepVigor, PositionsAreDistinctAndOfTheRightNumber) {
  for (const auto& [positions, expected] : std::vector<std::pair<std::int64_t, std::size_t>>{
           {1, 1}, {2, 1}, {3, 1}, {4, 2}, {5, 2}, {49, 5}, {64, 6}, {1023, 9}, {1024, 10}}) {
    const auto drawn = random_positions(positions, {7, 3, 5, Purpose::kPositions});
    EXPECT_EQ(drawn.size(), expected) << positions;
    EXPECT_EQ(std::set<std::int64_t>(drawn.begin(), drawn.end()).size(), expected);
    for (const std::int64_t position : drawn) {
      EXPECT_GE(position, 0);
      EXPECT_LT(position, positions);
    }
    EXPECT_EQ(drawn, random_positions(positions, {7, 3, 5, Purpose::kPositions}));
  }
  const auto drawn = random_positions(1024, {7, 3, 5, Purpose::kPositions});
  EXPECT_NE(drawn, random_positions(1024, {8, 3, 5, Purpose::kPositions}));
  EXPECT_NE(drawn, random_positions(1024, {7, 4, 5, Purpose::kPositions}));
  EXPECT_NE(drawn, random_positions(1024, {7, 3, 6, Purpose::kPositions}));
}

TEST(DeepVigor, RandomPositionsDependOnTheSeedAndAreAllWhereThereIsOne) {
  at::manual_seed(23);
  const Dataset images = noise({3, 8, 8}, 4, 5);
  const Graph graph = balanced(test::plain_residual(), images);
  const auto first = numbers(scores_of(graph, images, false, 1));
  EXPECT_EQ(first, numbers(scores_of(graph, images, false, 1)));
  EXPECT_NE(first, numbers(scores_of(graph, images, false, 2)));
  EXPECT_NE(first, numbers(scores_of(graph, images, true, 1)));
  EXPECT_EQ(numbers(scores_of(graph, images, true, 1)), numbers(scores_of(graph, images, true, 2)));
  const Dataset dots = noise({3, 1, 1}, 8, 6);
  EXPECT_EQ(numbers(scores_of(graph, dots, false)), numbers(scores_of(graph, dots, true)));
}

// ---- the search
// -----------------------------------------------------------------------------------

/// A network as a search has it, and images.
struct Searched {
  Graph graph;
  std::optional<FusedNet> net;
  at::Tensor images;

  Searched(Graph unbalanced, const Dataset& pictures)
      : graph(balanced(std::move(unbalanced), pictures)) {
    graph.to(at::kCPU, at::MemoryFormat::ChannelsLast);
    net.emplace(graph);
    images =
        pictures.batch(0, pictures.size(), {}).images.contiguous(at::MemoryFormat::ChannelsLast);
  }
  /// All channels of a layer, or three neurons.
  std::vector<FactorUnit> units(NodeId layer, bool neurons, ToleranceRule rule) const {
    const Trace trace = trace_around(graph, images, layer);
    const at::Tensor output = rule == ToleranceRule::kFactor
                                  ? raw_output(graph, layer, trace)
                                  : trace[static_cast<std::size_t>(layer)];
    const std::int64_t positions = output[0][0].numel();
    std::vector<FactorUnit> all;
    for (std::int64_t row = 0; row < (neurons ? 3 : output.size(1)); ++row)
      all.push_back({row, neurons ? (7 * row + 3) % positions : -1});
    return all;
  }
  ToleranceSearch search(NodeId layer, std::vector<FactorUnit> units, ToleranceRule rule,
                         EnginePath path = EnginePath::kFast) const {
    const bool limited = rule == ToleranceRule::kRanking;
    return {*net,
            {layer, std::move(units), grid_steps(limited), rule},
            trace_around(graph, images, layer, values_around(*net, layer)),
            "noise",
            0,
            path};
  }
};

TEST(DeepVigor, WhatIsFoundDoesNotDependOnWhichSearchesMeet) {
  at::manual_seed(24);
  const at::NoGradGuard no_grad;
  const Searched net(test::plain_residual(), noise({3, 8, 8}, 32, 7));
  for (const ToleranceOrder order : {ToleranceOrder::kExhaustive, ToleranceOrder::kProportional})
    for (const char* name : {"conv1", "layer2.0.downsample.0", "layer2.0.conv2"}) {
      const NodeId conv = net.graph.find(name);
      const auto units = net.units(conv, false, ToleranceRule::kRanking);
      const ToleranceSearch search = net.search(conv, units, ToleranceRule::kRanking);
      std::vector<std::uint8_t> one_by_one;
      for (std::size_t c = 0; c < units.size(); ++c) {
        const auto found = search.find(c, c + 1, order).found;
        one_by_one.insert(one_by_one.end(), found.begin(), found.end());
      }
      EXPECT_EQ(search.find(0, units.size(), order).found, one_by_one) << name;
      EXPECT_GT(std::set<std::uint8_t>(one_by_one.begin(), one_by_one.end()).size(), 4u) << name;
    }
}

/// Bounded by clamping, and by a ReLU6.
Graph clamped_net() {
  Graph graph = test::plain_residual();
  std::size_t bounded = 0;
  for (NodeId id = 0; id < graph.size(); ++id) {
    Op& op = graph[id].op;
    if (!std::holds_alternative<Activation>(op)) continue;
    if (bounded++ % 2 == 0)
      op = BoundedActivation{at::full({}, 1.5F), Clipping::kRangerClamp};
    else
      op = Activation{ActivationKind::kRelu6};
  }
  return graph;
}

/// The exhaustive search, byte by byte. How many searches are compared in all, and how many of
/// them the proportional one finds elsewhere.
ToleranceComparison expect_reference_tolerances(const Searched& net, bool neurons,
                                                ToleranceRule rule) {
  const at::NoGradGuard no_grad;
  ToleranceComparison proportional;
  for (NodeId id = 0; id < net.graph.size(); ++id) {
    const Op& op = net.graph[id].op;
    if (out_channels_of(op) == 0 || (rule == ToleranceRule::kRanking && !as_conv(op))) continue;
    const auto units = net.units(id, neurons, rule);
    const auto expected = net.search(id, units, rule, EnginePath::kReference)
                              .find(0, units.size(), ToleranceOrder::kExhaustive)
                              .found;
    const ToleranceSearch fast = net.search(id, units, rule);
    EXPECT_EQ(fast.find(0, units.size(), ToleranceOrder::kExhaustive).found, expected)
        << net.graph[id].name;
    const auto found = fast.find(0, units.size(), ToleranceOrder::kProportional).found;
    proportional.compared += expected.size();
    for (std::size_t i = 0; i < expected.size(); ++i)
      proportional.differing += found.at(i) != expected[i];
  }
  return proportional;
}

TEST(DeepVigor, TheFastSearchFindsWhatTheReferenceFinds) {
  at::manual_seed(25);
  const Searched residual(test::plain_residual(), noise({3, 8, 8}, 32, 9));
  for (const bool neurons : {false, true})
    for (const ToleranceRule rule : {ToleranceRule::kRanking, ToleranceRule::kFactor})
      EXPECT_EQ(expect_reference_tolerances(residual, neurons, rule).differing, 0U);
  const Searched clamped(clamped_net(), noise({3, 8, 8}, 8, 13));
  EXPECT_EQ(expect_reference_tolerances(clamped, false, ToleranceRule::kFactor).differing, 0U);
  const Searched small(test::residual_graph(), noise({3, 8, 8}, 3, 10));
  const Searched grouped(grouped_net(), noise({3, 9, 7}, 7, 11));
  for (const ToleranceRule rule : {ToleranceRule::kRanking, ToleranceRule::kFactor}) {
    EXPECT_EQ(expect_reference_tolerances(small, false, rule).differing, 0U);
    EXPECT_EQ(expect_reference_tolerances(grouped, false, rule).differing, 0U);
  }
  EXPECT_EQ(expect_reference_tolerances(small, true, ToleranceRule::kFactor).differing, 0U);
}

/// Predictions that rounding decides: two classes are the same, and the first of them wins.
TEST(DeepVigor, TheReferenceDecidesNearTies) {
  at::manual_seed(26);
  const Dataset pictures = noise({3, 8, 8}, 8, 12);
  Graph graph = balanced(test::plain_residual(), pictures);
  Linear& fc = std::get<Linear>(graph[graph.find("fc")].op);
  fc.weight[1] = fc.weight[0] * (1 + 1e-6);
  fc.bias[1] = fc.bias[0];
  const Searched tied(std::move(graph), pictures);
  EXPECT_EQ(expect_reference_tolerances(tied, false, ToleranceRule::kRanking).differing, 0U);
}

TEST(DeepVigor, ReachEndsWhereChannelsMix) {
  const Graph graph = test::plain_residual();
  const auto ids = [&](const std::vector<const char*>& names) {
    std::vector<NodeId> nodes;
    for (const char* name : names) nodes.push_back(graph.find(name));
    return nodes;
  };
  const Reach inner = reach_of_channels(graph, graph.find("layer1.0.conv1"));
  EXPECT_EQ(inner.apart, ids({"layer1.0.bn1", "layer1.0.relu"}));
  EXPECT_EQ(inner.seen, ids({"layer1.0.relu"}));
  EXPECT_TRUE(inner.untouched.empty());
  // Its other branch is computed later but does not depend on it.
  const Reach skip = reach_of_channels(graph, graph.find("layer2.0.downsample.0"));
  EXPECT_EQ(skip.untouched, ids({"layer2.0.conv1", "layer2.0.bn1", "layer2.0.relu",
                                 "layer2.0.conv2", "layer2.0.bn2"}));
  EXPECT_EQ(skip.seen, ids({"avgpool"}));
  // The stem's ReLU is read by the block and by its skip connection, whose sum mixes channels.
  EXPECT_EQ(reach_of_channels(graph, graph.find("conv1")).seen, ids({"relu"}));
}

TEST(DeepVigor, NaNWithoutFaultsIsAnErrorThatNamesTheImage) {
  Graph graph = test::plain_residual();
  std::get<Linear>(graph[graph.find("fc")].op).bias[1] = NAN;
  try {
    scores_of(graph, noise({3, 8, 8}, 2, 8), false);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kData);
    EXPECT_NE(std::string(error.what()).find("images of noise: image 0"), std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace sentinel
