#include "sentinel/graph/profile.hpp"

#include <gtest/gtest.h>

#include "sentinel/core/error.hpp"
#include "sentinel/graph/run.hpp"
#include "unit/graph_support.hpp"

namespace sentinel {
namespace {

TEST(OutputShapes, AreThoseOfARun) {
  for (const bool residual : {true, false}) {
    const Graph g = residual ? test::residual_graph() : test::concat_graph();
    const auto& input = std::get<Input>(g[0].op);
    Trace trace{test::values({1, input.channels, input.size[0], input.size[1]})};
    run(g, trace, 0);
    const auto shapes = output_shapes(g);
    for (std::size_t i = 0; i < trace.size(); ++i) {
      EXPECT_EQ(shapes[i], trace[i].sizes().slice(1).vec()) << g.nodes()[i].name;
    }
  }
}

TEST(OutputShapes, OddWindows) {
  Graph g;
  NodeId x = g.add("x", Input{1, {13, 10}}, {});
  Conv conv;
  conv.weight = test::values({2, 1, 3, 2});
  conv.stride = {2, 3};
  conv.padding = {1, 0};
  conv.dilation = {2, 1};
  x = g.add("conv", conv, {x});
  x = g.add("pool", MaxPool{{3, 2}, {2, 1}, {1, 1}}, {x});
  Trace trace{test::values({1, 1, 13, 10})};
  run(g, trace, 0);
  EXPECT_EQ(output_shapes(g).back(), trace.back().sizes().slice(1).vec());
}

TEST(OutputShapes, GateAndAffine) {
  Graph g;
  NodeId x = g.add("x", Input{3, {4, 5}}, {});
  x = g.add("affine", ChannelAffine{{2, 1, -1}, {0, 0.5, 1}}, {x});
  const NodeId gate = g.add("pool", AdaptiveAvgPool{}, {x});
  g.add("mul", Multiply{}, {x, gate});
  Trace trace{at::ones({1, 3, 4, 5})};
  const at::Tensor y = run(g, trace, 0);
  EXPECT_EQ(output_shapes(g).back(), y.sizes().slice(1).vec());
  const at::Tensor wanted = at::tensor({4.0F, 2.25F, 0.0F}).view({1, 3, 1, 1}).expand_as(y);
  EXPECT_TRUE(at::equal(y, wanted));
  g.add("wrong", Multiply{}, {gate, x});
  EXPECT_THROW(output_shapes(g), Bug);
}

TEST(OutputShapes, NameTheLayerThatDoesNotFit) {
  Graph g;
  NodeId x = g.add("x", Input{3, {8, 8}}, {});
  g.add("odd", test::conv(4, 5), {x});
  try {
    output_shapes(g);
    FAIL();
  } catch (const Bug& e) {
    EXPECT_NE(std::string(e.what()).find("'odd'"), std::string::npos) << e.what();
  }
}

TEST(ModelCost, ByHand) {
  Graph g;
  NodeId x = g.add("x", Input{3, {8, 8}}, {});
  x = g.add("conv", test::duplicated(test::conv(4, 3, 3, 2, 1, true), {1}), {x});
  x = g.add("bn", test::batch_norm(4), {x});
  x = g.add("relu", BoundedActivation{at::ones({4}), Clipping::kRanger}, {x});
  x = g.add("flatten", Flatten{}, {x});
  g.add("fc", test::linear(10, 64), {x});
  const ModelCost cost = model_cost(g);
  EXPECT_EQ(cost.layers[1].parameters, 5 * 27 + 5);
  EXPECT_EQ(cost.layers[1].macs, 5 * 27 * 16);
  EXPECT_EQ(cost.layers[1].activations, 64);
  EXPECT_EQ(cost.parameters, 5 * 27 + 5 + 8 + 640 + 10);
  EXPECT_EQ(cost.macs, 5 * 27 * 16 + 640);
  // Parameters, BN statistics and counter, bounds, interval ends, the list of copies.
  EXPECT_EQ(cost.memory_bytes, 4 * cost.parameters + 4 * 8 + 8 + 4 * 4 + 2 * 4 + 8);
}

}  // namespace
}  // namespace sentinel
