#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>

#include "sentinel/core/error.hpp"
#include "sentinel/graph/profile.hpp"
#include "sentinel/graph/visit.hpp"
#include "unit/tolerances.hpp"
#include "unit/transform_support.hpp"

namespace sentinel {
namespace {

using testing::DoubleNear;
using testing::ElementsAre;
using testing::HasSubstr;

ChannelScores salience(const Graph& graph) {
  return importance_method("salience")->score({graph});
}

/// A convolution "conv" of four channels 4x4, whatever `between` adds behind it, and one logit
/// that weighs feature f by ±(f + 1).
Graph weighed(const std::function<NodeId(Graph&, NodeId conv)>& between, bool pool = true) {
  Graph g;
  NodeId x = g.add("x", Input{2, {4, 4}}, {});
  x = g.add("conv", test::conv(4, 2, 1), {x});
  x = between(g, x);
  if (pool) x = g.add("pool", AdaptiveAvgPool{}, {x});
  x = g.add("flatten", Flatten{}, {x});
  at::Tensor weight = at::arange(1, channel_counts(g).back() + 1, at::kFloat).unsqueeze(0);
  weight.slice(1, 1, weight.size(1), 2).neg_();
  g.add("fc", Linear{weight, {}}, {x});
  return g;
}

/// What arrives at "conv" in such a graph.
std::vector<double> arriving(const std::function<NodeId(Graph&, NodeId)>& between,
                             bool pool = true) {
  return salience(weighed(between, pool)).at(0).scores;
}

std::vector<double> behind(const Op& op) {
  return arriving([&](Graph& g, NodeId x) { return g.add("op", op, {x}); });
}

at::Tensor filled(at::IntArrayRef shape) {
  std::int64_t count = 1;
  for (const std::int64_t size : shape) count *= size;
  return at::arange(1, count + 1, at::kFloat).view(shape);
}

TEST(Salience, PassesPointwiseOperatorsAndPoolsUnchanged) {
  const auto unchanged = ElementsAre(1, 2, 3, 4);
  EXPECT_THAT(arriving([](Graph&, NodeId x) { return x; }), unchanged);
  EXPECT_THAT(behind(Activation{}), unchanged);
  EXPECT_THAT(behind(BoundedActivation{at::full({4}, 0.1F), Clipping::kRanger}), unchanged);
  EXPECT_THAT(behind(MaxPool{}), unchanged);
  EXPECT_THAT(behind(AvgPool{}), unchanged);
  EXPECT_THAT(behind(AdaptiveAvgPool{{2, 2}}), unchanged);
  EXPECT_THAT(behind(Dropout{}), unchanged);
}

TEST(Salience, BatchNormScalesByItsMagnitude) {
  BatchNorm bn = test::batch_norm(4);
  bn.weight = at::tensor({2.F, -6.F, 0.F, 1.F});
  bn.var = at::tensor({4.F, 9.F, 1.F, 0.F});
  bn.eps = 0.25;
  EXPECT_THAT(behind(bn), ElementsAre(DoubleNear(2 / std::sqrt(4.25), 1e-12),
                                      DoubleNear(2 * 6 / std::sqrt(9.25), 1e-12), 0.0,
                                      DoubleNear(4 / 0.5, 1e-12)));
}

TEST(Salience, ConsumersAddUp) {
  EXPECT_THAT(arriving([](Graph& g, NodeId x) {
                const NodeId y = g.add("relu", Activation{}, {x});
                return g.add("add", Add{}, {x, y, x});
              }),
              ElementsAre(3, 6, 9, 12));
}

TEST(Salience, FollowsChannels) {
  EXPECT_THAT(behind(Slice{1, 3}), ElementsAre(0, 1, 2, 0));
  EXPECT_THAT(behind(ChannelShuffle{2}), ElementsAre(1, 3, 2, 4));
  EXPECT_THAT(arriving([](Graph& g, NodeId x) {
                const NodeId tail = g.add("tail", Slice{2, 4}, {x});
                return g.add("cat", Concat{}, {tail, x, tail});
              }),
              ElementsAre(3, 4, 5 + 1 + 7, 6 + 2 + 8));
}

TEST(Salience, FlattenSumsOverPositions) {
  const auto two_by_two = [](Graph& g, NodeId x) {
    return g.add("pool", AdaptiveAvgPool{{2, 2}}, {x});
  };
  EXPECT_THAT(arriving(two_by_two, false),
              ElementsAre(1 + 2 + 3 + 4, 5 + 6 + 7 + 8, 9 + 10 + 11 + 12, 13 + 14 + 15 + 16));
}

TEST(Salience, ConvolutionsMixByTheMagnitudesOfTheirKernels) {
  Conv conv = test::conv(2, 4, 1);
  conv.weight = filled({2, 4, 1, 2});
  conv.weight[1].neg_();
  // Output 0 (salience 1) has kernels 1+2, 3+4, 5+6, 7+8; output 1 (salience 2) 9+10 …
  EXPECT_THAT(behind(conv), ElementsAre(3 + 38, 7 + 46, 11 + 54, 15 + 62));
}

TEST(Salience, GroupedConvolutionsMixWithinGroups) {
  Conv conv = test::conv(4, 4, 1, 1, 2);
  conv.weight = filled({4, 2, 1, 1});
  EXPECT_THAT(behind(conv), ElementsAre(1 + 2 * 3, 2 + 2 * 4, 3 * 5 + 4 * 7, 3 * 6 + 4 * 8));
}

TEST(Salience, DepthwiseConvolutionsKeepChannelsApart) {
  Conv conv = test::conv(8, 4, 1, 1, 4);
  conv.weight = filled({8, 1, 1, 1});
  EXPECT_THAT(behind(conv), ElementsAre(1 + 4, 9 + 16, 25 + 36, 49 + 64));
}

TEST(Salience, CopiesOfDuplicatedConvolutionsDoNotCount) {
  at::manual_seed(1);
  const Conv conv = test::conv(5, 4);
  EXPECT_EQ(behind(test::duplicated(conv, {3, 0})), behind(conv));
  const auto own = salience(weighed([&](Graph& g, NodeId x) {
    return g.add("op", test::duplicated(conv, {3, 0}), {x});
  }));
  EXPECT_THAT(own.at(1).scores, ElementsAre(1, 2, 3, 4, 5));
}

TEST(Salience, LinearLayersMix) {
  const auto hidden = [](Graph& g, NodeId x) {
    x = g.add("pool1", AdaptiveAvgPool{}, {x});
    x = g.add("flatten1", Flatten{}, {x});
    at::Tensor weight = filled({2, 4});
    weight[0].neg_();
    x = g.add("hidden", Linear{weight, at::ones({2})}, {x});
    x = g.add("relu", Activation{}, {x});
    return g.add("last", Linear{at::tensor({1.F, -10.F}).view({1, 2}), {}}, {x});
  };
  Graph g;
  NodeId x = g.add("x", Input{2, {4, 4}}, {});
  x = g.add("conv", test::conv(4, 2, 1), {x});
  hidden(g, x);
  EXPECT_THAT(salience(g).at(0).scores, ElementsAre(1 + 50, 2 + 60, 3 + 70, 4 + 80));
}

TEST(Salience, ReadsWeightsWithinTheirBounds) {
  Conv conv = test::conv(1, 4, 1);
  conv.weight = at::tensor({1.F, 100.F, -INFINITY, NAN}).view({1, 4, 1, 1});
  conv.bounds = {at::full({1}, -2.F), at::full({1}, 2.F)};
  EXPECT_THAT(behind(conv), ElementsAre(1, 0, 0, 0));
}

TEST(Salience, StartsFromOnesAtTheLogits) {
  Graph g;
  NodeId x = g.add("x", Input{2, {4, 4}}, {});
  x = g.add("dead", test::conv(3, 2, 1), {x});
  x = g.add("conv", test::conv(4, 2, 1), {0});
  x = g.add("pool", AdaptiveAvgPool{}, {x});
  g.add("flatten", Flatten{}, {x});
  EXPECT_THAT(salience(g).at(0).scores, ElementsAre(0, 0, 0));
  EXPECT_THAT(salience(g).at(1).scores, ElementsAre(1, 1, 1, 1));
}

TEST(Salience, ScoresThatAreNotFiniteAreAnError) {
  Graph graph = test::vgg_like();
  std::get<BatchNorm>(graph[graph.find("features.5")].op).var.fill_(-1);
  try {
    salience(graph);
    FAIL() << "no error";
  } catch (const SharedError& error) {
    EXPECT_EQ(error.code(), ExitCode::kData);
    EXPECT_THAT(error.what(), HasSubstr("features.0"));
  }
}

/// A network of the same shape whose ordinary gradients are the salience: on images of one
/// position all weights are their magnitudes, all values positive and nothing is clipped.
Op surrogate(const Op& op, std::int64_t positions) {
  const auto wide = [](const at::Tensor& t) { return t.to(at::kDouble); };
  const auto sums = [&](const Conv& conv, std::int64_t rows) {
    Conv made;
    made.weight = wide(conv.weight).abs().sum({2, 3}, true).narrow(0, 0, rows);
    made.groups = conv.groups;
    return made;
  };
  const Pair one{1, 1};
  return std::visit(
      Overloaded{
          [](const Input& input) {
            return Op(Input{input.channels, {1, 1}});
          },
          [&](const Conv& conv) { return Op(sums(conv, conv.weight.size(0))); },
          [&](const DuplicatedConv& conv) { return Op(sums(conv.conv, conv.out_channels())); },
          [&](const BatchNorm& bn) {
            BatchNorm made{wide(bn.weight).abs(),
                           at::zeros_like(wide(bn.bias)),
                           at::zeros_like(wide(bn.mean)),
                           wide(bn.var),
                           {},
                           bn.eps};
            return Op(made);
          },
          [](const Activation&) { return Op(Activation{}); },
          [](const BoundedActivation&) { return Op(Activation{}); },
          [&](const MaxPool&) {
            return Op(MaxPool{one, one, {0, 0}});
          },
          [&](const AvgPool&) {
            return Op(AvgPool{one, one, {0, 0}});
          },
          [](const AdaptiveAvgPool&) { return Op(AdaptiveAvgPool{}); },
          [](const Add&) { return Op(Add{}); },
          [](const Multiply&) { return Op(Add{}); },  // both factors get all of it
          [](const ChannelAffine&) { return Op(Activation{}); },
          [](const Concat&) { return Op(Concat{}); },
          [](const Slice& slice) { return Op(slice); },
          [](const ChannelShuffle& shuffle) { return Op(shuffle); },
          [](const Flatten&) { return Op(Flatten{}); },
          [&](const Linear& linear) {
            const at::Tensor weight = wide(linear.weight).abs();
            return Op(Linear{weight.view({weight.size(0), -1, positions}).sum(2), {}});
          },
          [](const Dropout&) { return Op(Dropout{}); },
      },
      op);
}

/// The surrogate's gradients of the sum of all logits at every convolution's output.
std::vector<std::vector<double>> by_autograd(const Graph& graph) {
  Graph made;
  std::int64_t positions = 1;  // that were flattened and that the next linear layer reads
  for (const Node& node : graph.nodes()) {
    if (std::holds_alternative<Flatten>(node.op)) {
      const auto counts = channel_counts(graph);
      positions = counts[static_cast<std::size_t>(graph.find(node.name))] /
                  counts[static_cast<std::size_t>(node.inputs[0])];
    }
    made.add(node.name, surrogate(node.op, positions), node.inputs);
    if (std::holds_alternative<Linear>(node.op)) positions = 1;
  }
  const auto channels = std::get<Input>(made[0].op).channels;
  Trace trace{at::ones({1, channels, 1, 1}, at::kDouble).requires_grad_(true)};
  const at::Tensor sum = run(made, trace).sum();
  std::vector<at::Tensor> outputs;
  for (NodeId id = 0; id < made.size(); ++id) {
    if (as_conv(made[id].op)) outputs.push_back(trace[static_cast<std::size_t>(id)]);
  }
  std::vector<std::vector<double>> result;
  for (const at::Tensor& gradient : torch::autograd::grad({sum}, outputs)) {
    const at::Tensor flat = gradient.contiguous();
    result.emplace_back(flat.data_ptr<double>(), flat.data_ptr<double>() + flat.numel());
  }
  return result;
}

void expect_as_autograd(const Graph& graph) {
  const ChannelScores ours = salience(graph);
  const auto theirs = by_autograd(graph);
  ASSERT_EQ(ours.size(), theirs.size());
  for (std::size_t k = 0; k < ours.size(); ++k) {
    ASSERT_EQ(ours[k].scores.size(), theirs[k].size()) << ours[k].layer;
    for (std::size_t c = 0; c < theirs[k].size(); ++c) {
      // Both in double, in another order.
      EXPECT_NEAR(ours[k].scores[c], theirs[k][c], test::kDoubles * theirs[k][c]) << ours[k].layer;
    }
  }
}

TEST(Salience, IsTheGradientOfTheNetworkOfMagnitudes) {
  at::manual_seed(2);
  expect_as_autograd(test::plain_residual());
  expect_as_autograd(test::residual_graph());
  expect_as_autograd(test::vgg_like());
  expect_as_autograd(test::concat_graph(2));
  expect_as_autograd(test::concat_graph(3));
}

}  // namespace
}  // namespace sentinel
