#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "sentinel/core/error.hpp"
#include "sentinel/fault/fault_space.hpp"
#include "sentinel/graph/channels.hpp"
#include "sentinel/graph/profile.hpp"
#include "sentinel/graph/visit.hpp"
#include "sentinel/models/model.hpp"
#include "sentinel/transform/prune.hpp"
#include "unit/tolerances.hpp"
#include "unit/transform_support.hpp"

namespace sentinel {
namespace {

using testing::AllOf;
using testing::HasSubstr;

/// Slices, a depthwise convolution with two channels for one, concat, flatten over positions.
Graph concat_net() {
  Graph g;
  NodeId x = g.add("x", Input{4, {8, 8}}, {});
  x = g.add("stem", test::conv(10, 4, 3, 1, 1, true), {x});
  const NodeId left = g.add("left", Slice{0, 4}, {x});
  NodeId r = g.add("right", Slice{4, 10}, {x});
  r = g.add("depthwise", test::conv(12, 6, 3, 1, 6, true), {r});
  r = g.add("bn", test::batch_norm(12), {r});
  r = g.add("relu", Activation{}, {r});
  x = g.add("cat", Concat{}, {left, r, left});
  x = g.add("max", MaxPool{}, {x});
  x = g.add("mix", test::conv(6, 20, 3), {x});
  x = g.add("mix_relu", Activation{}, {x});
  x = g.add("pool", MaxPool{}, {x});
  x = g.add("flatten", Flatten{}, {x});
  g.add("fc", test::linear(3, 24), {x});
  return g;
}

/// Two units of ShuffleNet V2.
Graph shuffle_net() {
  Graph g;
  NodeId x = g.add("x", Input{4, {8, 8}}, {});
  x = g.add("stem", test::conv(16, 4, 3, 1, 1, true), {x});
  for (const std::string unit : {"a", "b"}) {
    const NodeId left = g.add(unit + ".left", Slice{0, 8}, {x});
    NodeId r = g.add(unit + ".right", Slice{8, 16}, {x});
    r = g.add(unit + ".depthwise", test::conv(8, 8, 3, 1, 8), {r});
    r = g.add(unit + ".bn", test::batch_norm(8), {r});
    r = g.add(unit + ".conv", test::conv(8, 8, 1), {r});
    r = g.add(unit + ".relu", Activation{}, {r});
    x = g.add(unit + ".cat", Concat{}, {left, r});
    x = g.add(unit + ".shuffle", ChannelShuffle{2}, {x});
  }
  x = g.add("pool", AdaptiveAvgPool{}, {x});
  x = g.add("flatten", Flatten{}, {x});
  g.add("fc", test::linear(3, 16), {x});
  return g;
}

PruningPlan by(double ratio, std::map<std::string, double> ratios = {}) {
  return {ratio, std::move(ratios), GroupScore::kMean};
}

bool same_tensors(const Graph& a, const Graph& b) {
  std::vector<at::Tensor> left, right;
  for (NodeId id = 0; id < a.size(); ++id) {
    for_each_tensor(a[id].op, [&](const char*, const at::Tensor& t) { left.push_back(t); });
    for_each_tensor(b[id].op, [&](const char*, const at::Tensor& t) { right.push_back(t); });
  }
  return std::equal(left.begin(), left.end(), right.begin(), right.end(), test::same_bits);
}

bool same_origin(const Graph& a, const Graph& b) {
  return std::equal(a.origin.begin(), a.origin.end(), b.origin.begin(), b.origin.end(),
                    [](const auto& x, const auto& y) {
                      return x.first == y.first && x.second.out == y.second.out &&
                             x.second.in == y.second.in;
                    });
}

/// Groups whose channels have scores.
std::vector<ChannelGroup> pruned_groups(const Graph& graph) {
  std::vector<ChannelGroup> groups;
  for (ChannelGroup& group : channel_groups(graph)) {
    bool scored = false;
    for (const NodeId producer : group.producers) scored |= as_conv(graph[producer].op) != nullptr;
    if (group.permutable && scored) groups.push_back(std::move(group));
  }
  return groups;
}

void zero(at::Tensor& tensor, std::int64_t row) {
  if (tensor.defined()) tensor[row].zero_();
}

/// The last floor(C * ratio) channels of every group give 0 wherever they are made.
Graph silenced(const Graph& sorted, double ratio) {
  Graph graph = sorted.clone();
  for (const ChannelGroup& group : pruned_groups(sorted)) {
    const auto gone = static_cast<std::int64_t>(static_cast<double>(group.channels) * ratio);
    for (const GroupMember& member : group.members) {
      if (member.side != GroupMember::Side::kOut) continue;
      for (std::int64_t i = (group.channels - gone) * member.copies;
           i < group.channels * member.copies; ++i) {
        const std::int64_t row = member.index[static_cast<std::size_t>(i)];
        if (Conv* conv = as_conv(graph[member.node].op)) {
          zero(conv->weight, row);
          zero(conv->bias, row);
        } else if (auto* bn = std::get_if<BatchNorm>(&graph[member.node].op)) {
          zero(bn->weight, row);
          zero(bn->bias, row);
        }
      }
    }
  }
  return graph;
}

float value_at(const Graph& graph, const FaultSpace& space, const FaultSite& site) {
  const Op& op = graph[space.tensors()[site.tensor].node].op;
  const Conv* conv = as_conv(op);
  const at::Tensor& weight = conv ? conv->weight : std::get<Linear>(op).weight;
  return weight.contiguous().data_ptr<float>()[site.element];
}

/// Every word of the model made from it is that of one word of the original, by the origin.
void expect_same_words(const Graph& original, const Graph& model) {
  const FaultSpace from(original), to(model);
  const SiteMap map(original, model);
  std::uint64_t kept = 0;
  for (std::uint64_t bit = 0; bit < from.sites(); bit += 32) {
    const FaultSite site = from.at(bit);
    for (const FaultSite& found : map.translate({site})) {
      ++kept;
      ASSERT_EQ(value_at(original, from, site), value_at(model, to, found));
    }
  }
  EXPECT_EQ(kept * 32, to.sites());
}

struct Case {
  const char* name;
  Graph (*make)();
  std::int64_t channels;
};

class Pruning : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override { at::manual_seed(7); }
  Graph net() const { return GetParam().make(); }
  at::Tensor images() const { return at::randn({5, GetParam().channels, 8, 8}); }
};

TEST_P(Pruning, ByNothingIsSorting) {
  const Graph graph = net();
  const ChannelScores scores = test::random_scores(graph, 1);
  for (const auto how : {GroupScore::kMean, GroupScore::kFirst}) {
    const Graph pruned = prune(graph, scores, {0, {}, how});
    const Graph sorted = sort_channels(graph, scores, how);
    EXPECT_TRUE(same_tensors(pruned, sorted));
    EXPECT_TRUE(same_origin(pruned, sorted));
  }
}

TEST_P(Pruning, KeepsWhatSilencingKeeps) {
  const Graph graph = net();
  const at::Tensor x = images();
  for (const double ratio : {0.25, 0.5, 0.75}) {
    SCOPED_TRACE(ratio);
    const ChannelScores scores = test::random_scores(graph, 2);
    const Graph pruned = prune(graph, scores, by(ratio));
    const at::Tensor expected = logits(silenced(sort_channels(graph, scores), ratio), x);
    // Sums without their zeros may be added in another order.
    EXPECT_LE(test::relative_difference(expected, logits(pruned, x)), test::kFewFloats);
    EXPECT_LT(model_cost(pruned).parameters, model_cost(graph).parameters);
  }
}

TEST_P(Pruning, EveryGroupKeepsAllButTheFloor) {
  const Graph graph = net();
  for (const double ratio : {0.3, 0.5, 0.8}) {
    const auto before = pruned_groups(graph);
    const Graph pruned = prune(graph, test::random_scores(graph, 3), by(ratio));
    const auto after = pruned_groups(pruned);
    ASSERT_EQ(after.size(), before.size());
    for (std::size_t i = 0; i < before.size(); ++i) {
      const auto gone = static_cast<std::int64_t>(static_cast<double>(before[i].channels) * ratio);
      EXPECT_EQ(after[i].channels, before[i].channels - gone);
      EXPECT_EQ(after[i].producers, before[i].producers);
    }
    EXPECT_EQ(class_count(pruned), class_count(graph));
  }
}

TEST_P(Pruning, OriginFindsEveryWordHoweverOftenItIsPruned) {
  const Graph graph = net();
  const Graph once = prune(graph, test::random_scores(graph, 4), by(0.5));
  expect_same_words(graph, once);
  const Graph sorted = sort_channels(graph, test::random_scores(graph, 5));
  expect_same_words(graph, prune(sorted, test::random_scores(sorted, 6), by(0.5)));
  const Graph twice = prune(once, test::random_scores(once, 7), by(0.5));
  expect_same_words(graph, twice);
  expect_same_words(once, twice);
}

INSTANTIATE_TEST_SUITE_P(Nets, Pruning,
                         testing::Values(Case{"residual", test::plain_residual, 3},
                                         Case{"vgg", test::vgg_like, 3},
                                         Case{"concat", concat_net, 4},
                                         Case{"grouped", test::grouped_graph, 3},
                                         Case{"shuffle", shuffle_net, 4}),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(PruningNets, EveryBlockOfAGroupedConvolutionLosesTheSamePlaces) {
  at::manual_seed(1);
  const Graph graph = test::grouped_graph();
  const Graph pruned = prune(graph, test::random_scores(graph, 1), by(0.5));
  const auto shape = [&](const char* layer) {
    const Conv& conv = *as_conv(pruned[pruned.find(layer)].op);
    EXPECT_EQ(conv.groups, as_conv(graph[graph.find(layer)].op)->groups);
    return conv.weight.sizes().vec();
  };
  EXPECT_EQ(shape("a"), (std::vector<std::int64_t>{10, 3, 1, 1}));
  EXPECT_EQ(shape("b"), (std::vector<std::int64_t>{10, 5, 3, 3}));
  const auto& out = pruned.origin.at("b").out;
  for (std::size_t i = 0; i < 5; ++i) EXPECT_EQ(out[i + 5], out[i] + 10);
}

TEST(PruningNets, AGroupedConvolutionMayEndAsADepthwiseOne) {
  at::manual_seed(1);
  Graph graph;
  NodeId x = graph.add("x", Input{3, {8, 8}}, {});
  x = graph.add("a", test::conv(8, 3), {x});
  x = graph.add("b", test::conv(8, 8, 3, 1, 4), {x});
  x = graph.add("flatten", Flatten{}, {graph.add("pool", AdaptiveAvgPool{}, {x})});
  graph.add("fc", test::linear(4, 8), {x});
  const Graph once = prune(graph, test::random_scores(graph, 1), by(0.5));
  EXPECT_EQ(as_conv(once[once.find("b")].op)->weight.sizes(), (at::IntArrayRef{4, 1, 3, 3}));
  const Graph twice = prune(once, test::random_scores(once, 2), by(0.5));
  EXPECT_EQ(as_conv(twice[twice.find("b")].op)->weight.sizes(), (at::IntArrayRef{2, 1, 3, 3}));
  EXPECT_EQ(twice.origin.at("b").in.size(), 2U);
  expect_same_words(graph, once);
  expect_same_words(graph, twice);
  expect_same_words(once, twice);
}

TEST(PruningNets, HiddenLinearLayersKeepTheirOutputs) {
  at::manual_seed(1);
  const Graph graph = test::vgg_like();
  const Graph pruned = prune(graph, test::random_scores(graph, 1), by(0.5));
  EXPECT_EQ(std::get<Linear>(pruned[pruned.find("classifier.0")].op).weight.sizes(),
            (at::IntArrayRef{10, 16}));
}

std::int64_t width(const Graph& graph, const std::string& layer) {
  return channel_counts(graph)[static_cast<std::size_t>(graph.find(layer))];
}

TEST(PruningRatios, OneMemberDecidesForItsGroup) {
  at::manual_seed(1);
  const Graph graph = test::plain_residual();
  const ChannelScores scores = test::random_scores(graph, 1);
  const Graph pruned = prune(graph, scores, by(0.25, {{"layer1.0.conv2", 0.5}}));
  EXPECT_EQ(width(pruned, "conv1"), 3);
  EXPECT_EQ(width(pruned, "layer1.0.conv2"), 3);
  EXPECT_EQ(width(pruned, "layer1.0.conv1"), 4);
  EXPECT_EQ(width(pruned, "layer2.0.conv2"), 6);
  const Graph only = prune(graph, scores, by(0.5, {{"conv1", 0}, {"layer1.0.conv2", 0}}));
  EXPECT_EQ(width(only, "conv1"), 6);
  EXPECT_EQ(width(only, "layer2.0.conv1"), 4);
}

std::string refusal(const Graph& graph, const PruningPlan& plan) {
  try {
    prune(graph, test::random_scores(graph, 1), plan);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(PruningRatios, NonsenseIsRefusedByName) {
  const Graph graph = test::plain_residual();
  const double infinity = std::numeric_limits<double>::infinity();
  for (const double ratio : {1.0, 1.5, -0.1, std::nan(""), infinity}) {
    EXPECT_THAT(refusal(graph, by(ratio)), HasSubstr("[0, 1)"));
    EXPECT_THAT(refusal(graph, by(0.1, {{"conv1", ratio}})),
                AllOf(HasSubstr("conv1"), HasSubstr("[0, 1)")));
  }
  EXPECT_THAT(refusal(graph, by(0.1, {{"conv9", 0.1}})), HasSubstr("conv9"));
  EXPECT_THAT(refusal(graph, by(0.1, {{"fc", 0.1}})), HasSubstr("fc cannot be pruned"));
  EXPECT_THAT(refusal(graph, by(0.1, {{"bn1", 0.1}})), HasSubstr("bn1 cannot be pruned"));
  EXPECT_THAT(refusal(graph, by(0.1, {{"conv1", 0.1}, {"layer1.0.conv2", 0.2}})),
              AllOf(HasSubstr("conv1 and layer1.0.conv2"), HasSubstr("0.1"), HasSubstr("0.2")));
  EXPECT_EQ(refusal(graph, by(0.1, {{"conv1", 0.2}, {"layer1.0.conv2", 0.2}})), "");
}

TEST(PruningNets, AHardenedOneIsRefused) {
  EXPECT_THAT(refusal(test::residual_graph(), by(0.1)), HasSubstr("a.relu is hardened"));
  Graph bounded = test::plain_residual();
  Conv* conv = as_conv(bounded[bounded.find("conv1")].op);
  conv->bounds = {conv->weight.min(), conv->weight.max()};
  EXPECT_THAT(refusal(bounded, by(0.1)), HasSubstr("conv1 is hardened"));
}

TEST(PruningNets, AShuffleThatCannotPassWhatStaysIsRefused) {
  at::manual_seed(1);
  const Graph graph = shuffle_net();
  EXPECT_THAT(refusal(graph, by(0, {{"a.conv", 0.5}})), HasSubstr("a.shuffle"));
  const Graph halves = test::concat_graph(1);
  EXPECT_EQ(refusal(halves, by(0.5)), "");  // those that it mixes stay
  EXPECT_THAT(refusal(halves, by(0, {{"depthwise", 0.25}})), HasSubstr("shuffle"));
  // Channels that no shuffle sees are free.
  EXPECT_EQ(refusal(halves, by(0, {{"grouped", 0.5}})), "");
}

TEST(WeightBounds, MoveWithTheirChannelsWhenSorted) {
  at::manual_seed(1);
  Graph graph = test::plain_residual();
  const auto bound = [](const at::Tensor& weight) {
    return WeightBounds{weight.flatten(1).amin(1), weight.flatten(1).amax(1)};
  };
  for (NodeId id = 0; id < graph.size(); ++id) {
    if (Conv* conv = as_conv(graph[id].op)) conv->bounds = bound(conv->weight);
  }
  const Graph sorted = sort_channels(graph, test::random_scores(graph, 1));
  for (NodeId id = 0; id < sorted.size(); ++id) {
    const Conv* conv = as_conv(sorted[id].op);
    if (!conv) continue;
    EXPECT_TRUE(test::same_bits(conv->bounds.low, bound(conv->weight).low)) << sorted[id].name;
    EXPECT_TRUE(test::same_bits(conv->bounds.high, bound(conv->weight).high)) << sorted[id].name;
  }
}

// ---- checkpoints ----

/// What its own file gives, without any option.
Graph reread(const Graph& graph) {
  return parse_model(serialize_model(graph, {}), "test.pth", "", "");
}

class PrunedFile : public testing::TestWithParam<const char*> {};

TEST_P(PrunedFile, LoadsByItselfBitForBit) {
  Graph graph = initial_model(GetParam(), 10, 1);
  graph.dataset = "cifar10";
  const Graph pruned = prune(graph, test::random_scores(graph, 1), by(0.3));
  const Graph read = reread(pruned);
  EXPECT_TRUE(same_tensors(read, pruned));
  EXPECT_TRUE(same_origin(read, pruned));
  at::manual_seed(1);
  const at::Tensor x = at::randn({2, 3, 32, 32});
  EXPECT_TRUE(test::same_bits(logits(read, x), logits(pruned, x)));
}

INSTANTIATE_TEST_SUITE_P(Models, PrunedFile, testing::Values("resnet20", "vgg11_bn"));

TEST(PrunedNets, CanBeHardened) {
  Graph graph = initial_model("resnet20", 10, 1);
  graph.dataset = "cifar10";
  const Graph pruned = prune(graph, test::random_scores(graph, 1), by(0.3));
  const Dataset images = synthetic_dataset(Split::kTrain, 8, 1);
  const at::Tensor x = images.batch(0, 8, {}).images;  // within the bounds
  for (const auto layout : {RowLayout::kOwn, RowLayout::kGroup}) {
    HardeningPlan plan;
    plan.duplication.layout = layout;
    const ChannelScores scores = test::random_scores(pruned, 2);
    const Graph hardened = harden(pruned, scores, plan, images, Comm::local(), at::kCPU);
    EXPECT_LE(test::relative_difference(logits(pruned, x), logits(hardened, x)), test::kFloats);
    const Graph read = reread(hardened);
    EXPECT_TRUE(same_tensors(read, hardened));
    EXPECT_TRUE(same_origin(read, hardened));
    EXPECT_TRUE(test::same_bits(logits(read, x), logits(hardened, x)));
    // Faults of the unpruned original pair with it.
    const FaultSpace from(graph), to(hardened);
    const SiteMap map(graph, hardened);
    for (std::uint64_t bit = 0; bit < from.sites(); bit += 32 * 1009) {
      for (const FaultSite& site : map.translate({from.at(bit)})) {
        EXPECT_EQ(value_at(graph, from, from.at(bit)), value_at(hardened, to, site));
      }
    }
  }
}

}  // namespace
}  // namespace sentinel
