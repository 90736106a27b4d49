#include "sentinel/graph/fused.hpp"

#include <gtest/gtest.h>

#include "sentinel/core/error.hpp"
#include "sentinel/graph/visit.hpp"
#include "unit/graph_support.hpp"
#include "unit/tolerances.hpp"

namespace sentinel {
namespace {

class Fused : public testing::TestWithParam<bool> {
 protected:
  Fused() {
    at::manual_seed(5);
    graph = GetParam() ? test::residual_graph() : test::concat_graph();
    graph.to(at::kCPU, at::MemoryFormat::ChannelsLast);
    const auto& input = std::get<Input>(graph[0].op);
    images = test::values({3, input.channels, input.size[0], input.size[1]})
                 .contiguous(at::MemoryFormat::ChannelsLast);
  }
  Graph graph;
  at::Tensor images;
};

TEST_P(Fused, EqualsRunUpToRounding) {
  const FusedNet net(graph);
  Trace trace{images};
  const at::Tensor wanted = run(graph, trace);
  Trace start(trace.size());
  start[0] = images;
  const at::Tensor got = net.run(start, 0);
  EXPECT_TRUE(at::allclose(got, wanted, test::kFloats, test::kFloats));
  EXPECT_TRUE(test::same_bits(start[0], images));
}

TEST_P(Fused, EveryNodeBelongsToOneValue) {
  const FusedNet net(graph);
  std::vector<int> seen(static_cast<std::size_t>(graph.size()), 0);
  for (NodeId id = 1; id < graph.size(); ++id) {
    for (const NodeId part : net.parts(id)) ++seen[static_cast<std::size_t>(part)];
    if (net.is_value(id)) {
      EXPECT_EQ(net.parts(id).back(), id);
    }
  }
  for (std::size_t id = 1; id < seen.size(); ++id) EXPECT_EQ(seen[id], 1) << id;
}

TEST_P(Fused, GoesOnFromEveryCutWithTheSameBits) {
  const FusedNet net(graph);
  Trace all(static_cast<std::size_t>(graph.size()));
  all[0] = images;
  for (NodeId id = 1; id < graph.size(); ++id) {
    if (!net.is_value(id)) continue;
    std::vector<at::Tensor> in;
    for (const NodeId input : net.inputs(id)) in.push_back(all[static_cast<std::size_t>(input)]);
    all[static_cast<std::size_t>(id)] = net.compute(id, in);
  }
  Trace kept;
  for (const at::Tensor& value : all) kept.push_back(value.defined() ? value.clone() : value);
  for (NodeId from = 1; from < graph.size(); ++from) {
    Trace cut(all.size());
    for (const NodeId id : net.live_at(from))
      cut[static_cast<std::size_t>(id)] = all[static_cast<std::size_t>(id)];
    EXPECT_TRUE(test::same_bits(net.run(cut, from), all.back())) << from;
  }
  for (std::size_t i = 0; i < all.size(); ++i)
    if (all[i].defined()) {
      EXPECT_TRUE(test::same_bits(all[i], kept[i])) << i;
    }
  EXPECT_THROW(net.run(Trace(all.size()), 3), Bug);
}

/// Every tensor of every operator in turn.
TEST_P(Fused, ReadsAnOverlayAsAGraphThatHoldsItsValues) {
  const FusedNet net(graph);
  Trace start(static_cast<std::size_t>(graph.size()));
  start[0] = images;
  const at::Tensor clean = net.run(start, 0);
  int tensors = 0, changed = 0;
  for (NodeId id = 0; id < graph.size(); ++id)
    for_each_tensor(graph[id].op, [&](const std::string& suffix, const at::Tensor&) {
      if (suffix == "num_batches_tracked") return;
      Graph other = graph.clone();
      for_each_tensor(other[id].op, [&](const char* own, at::Tensor& values) {
        if (own == suffix) values.mul_(1.5F);
      });
      Overlay overlay;
      overlay.ops.emplace(id, other[id].op);
      const at::Tensor wanted = FusedNet(other).run(start, 0);
      EXPECT_TRUE(test::same_bits(net.run(start, 0, overlay), wanted)) << graph[id].name << suffix;
      changed += test::same_bits(wanted, clean) ? 0 : 1;
      ++tensors;
    });
  // Ranges of corrections decide nothing while copies agree.
  EXPECT_GE(changed, tensors - 2);
  EXPECT_TRUE(test::same_bits(net.run(start, 0), clean));
}

TEST(FusedNet, ReadsRowsOfALinearLayerFromAnOverlay) {
  at::manual_seed(8);
  Graph graph;
  graph.add("input", Input{40, {1, 1}}, {});
  graph.add("flatten", Flatten{}, {0});
  graph.add("fc", Linear{test::values({20, 40}), test::values({20})}, {1});
  Graph other = graph.clone();
  at::Tensor weight = std::get<Linear>(other[2].op).weight;
  weight[3][7] = -2.0F;
  weight[18][0] = 5.0F;
  const at::Tensor numbers = at::tensor(std::vector<std::int64_t>{3, 18});
  Overlay overlay;
  overlay.rows[2] = {{3, 18}, weight.index_select(0, numbers)};
  const Trace start{test::values({5, 40, 1, 1}), {}, {}};
  const at::Tensor got = FusedNet(graph).run(start, 0, overlay);
  EXPECT_TRUE(test::same_bits(got, FusedNet(other).run(start, 0)));
  EXPECT_FALSE(test::same_bits(got, FusedNet(graph).run(start, 0)));
}

INSTANTIATE_TEST_SUITE_P(Graphs, Fused, testing::Bool());

/// LibTorch's convolutions take other kernels for few images.
TEST(FusedNet, AnImagesValuesAreTheSameInEveryBatch) {
  at::manual_seed(6);
  struct Shape {
    std::int64_t window, groups, map;
  };
  for (const auto& [window, groups, map] :
       {Shape{1, 1, 9}, Shape{1, 1, 1}, Shape{1, 48, 9}, Shape{3, 1, 9}, Shape{3, 48, 4}}) {
    Graph graph;
    graph.add("input", Input{48, {map, map}}, {});
    Conv conv;
    conv.weight = test::values({48, 48 / groups, window, window});
    conv.padding = {window / 2, window / 2};
    conv.groups = groups;
    graph.add("conv", conv, {0});
    graph.to(at::kCPU, at::MemoryFormat::ChannelsLast);
    const FusedNet net(graph);
    const at::Tensor images =
        test::values({33, 48, map, map}).contiguous(at::MemoryFormat::ChannelsLast);
    const at::Tensor all = net.compute(1, {images});
    for (const std::int64_t size : {1, 2, 3, 7, 15, 16, 17, 32}) {
      const at::Tensor some = images.narrow(0, 1, size);
      const at::Tensor wanted = all.narrow(0, 1, size).contiguous();
      for (const at::Tensor& same : {some, some.contiguous(), at::cat({some})})
        EXPECT_TRUE(test::same_bits(net.compute(1, {same}).contiguous(), wanted))
            << window << " " << groups << " " << map << " " << size;
    }
  }
}

/// Trials in channels of one layer are computed together, in any number.
TEST(FusedNet, AChannelsValuesAreTheSameBesideAnyOthers) {
  at::manual_seed(7);
  Graph graph;
  graph.add("input", Input{40, {8, 8}}, {});
  graph.add("pool", MaxPool{}, {0});
  graph.add("norm", test::batch_norm(40), {1});
  graph.add("activation", Activation{ActivationKind::kSilu}, {2});
  graph.add("average", AvgPool{}, {3});
  graph.add("adaptive", AdaptiveAvgPool{}, {4});
  const FusedNet net(graph);
  for (const auto format : {at::MemoryFormat::Contiguous, at::MemoryFormat::ChannelsLast})
    for (NodeId id = 1; id < graph.size(); ++id) {
      const at::Tensor in = test::values({3, 40, 8, 8}).contiguous(format);
      const at::Tensor all = net.compute_channels(id, {in}, at::arange(40));
      for (std::int64_t count = 1; count <= 33; ++count) {
        const at::Tensor own = in.narrow(1, 3, count).contiguous(format);
        const at::Tensor some = net.compute_channels(id, {own}, at::arange(3, 3 + count));
        EXPECT_TRUE(test::same_bits(some.contiguous(), all.narrow(1, 3, count).contiguous()))
            << graph[id].name << " " << count << (own.is_contiguous() ? "" : " channels last");
      }
    }
}

TEST(FusedNet, JoinsNormalisationAddAndActivation) {
  const Graph graph = test::residual_graph();
  const FusedNet net(graph);
  std::size_t longest = 0;
  for (NodeId id = 1; id < graph.size(); ++id) longest = std::max(longest, net.parts(id).size());
  EXPECT_EQ(longest, 3u);
}

/// A faulty scale and shift whose sum is finite where the product alone is not.
TEST(FusedNet, IsFiniteWhereLibTorchIs) {
  Graph graph;
  graph.add("input", Input{2, {4, 4}}, {});
  BatchNorm norm{at::ones({2}), at::zeros({2}), at::zeros({2}), at::ones({2}), {}};
  norm.eps = 0;
  norm.weight[1] = 2.6e38F;
  norm.bias[1] = -1e38F;
  graph.add("bn", norm, {0});
  graph.add("relu", Activation{}, {1});
  const at::Tensor images = at::full({1, 2, 4, 4}, 1.5F).contiguous(at::MemoryFormat::ChannelsLast);
  Trace trace{images, {}, {}};
  const at::Tensor got = FusedNet(graph).run(trace, 0);
  const at::Tensor wanted = at::full({4, 4}, static_cast<float>(1.5 * double(2.6e38F) - 1e38F));
  EXPECT_TRUE(test::same_bits(got[0][1].contiguous(), wanted));
  EXPECT_TRUE(at::equal(got[0][0], at::full({4, 4}, 1.5F)));
}

TEST(FusedNet, KnowsWhetherCopiesAgree) {
  at::manual_seed(6);
  DuplicatedConv op = test::duplicated(test::conv(6, 3, 3, 1, 1, true), {4, 1});
  op.conv.weight = op.conv.weight.contiguous(at::MemoryFormat::ChannelsLast);
  EXPECT_TRUE(copies_agree(op));
  op.conv.bias[7] += 1;
  EXPECT_FALSE(copies_agree(op));
  op.conv.bias[7] -= 1;
  op.conv.weight[6][2][1][0] += 0.5F;
  EXPECT_FALSE(copies_agree(op));
}

}  // namespace
}  // namespace sentinel
