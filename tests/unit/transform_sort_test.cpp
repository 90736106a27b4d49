#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sentinel/core/error.hpp"
#include "sentinel/core/file.hpp"
#include "sentinel/models/model.hpp"
#include "sentinel/transform/harden.hpp"
#include "unit/tolerances.hpp"
#include "unit/transform_support.hpp"

namespace sentinel {
namespace {

using testing::ElementsAre;

std::vector<std::int64_t> numbers(const std::vector<std::int64_t>& origin, std::int64_t count) {
  if (!origin.empty()) return origin;
  std::vector<std::int64_t> all;
  for (std::int64_t i = 0; i < count; ++i) all.push_back(i);
  return all;
}

at::Tensor rows(const at::Tensor& tensor, std::int64_t dim,
                const std::vector<std::int64_t>& which) {
  return tensor.index_select(dim, at::tensor(numbers(which, tensor.size(dim))));
}

ChannelOrigin origin_of(const Graph& graph, const std::string& name) {
  const auto found = graph.origin.find(name);
  return found == graph.origin.end() ? ChannelOrigin{} : found->second;
}

/// Every weight is the original's at the channels origin names.
void expect_origin_explains(const Graph& original, const Graph& sorted) {
  for (NodeId id = 0; id < original.size(); ++id) {
    const auto origin = origin_of(sorted, original[id].name);
    if (const auto* linear = std::get_if<Linear>(&original[id].op)) {
      const auto& now = std::get<Linear>(sorted[id].op);
      EXPECT_TRUE(
          test::same_bits(rows(rows(linear->weight, 0, origin.out), 1, origin.in), now.weight));
    }
    const auto* conv = std::get_if<Conv>(&original[id].op);
    if (!conv) continue;
    const auto& now = std::get<Conv>(sorted[id].op);
    auto columns = origin.in;  // of a grouped convolution each block has the first one's
    if (!columns.empty()) columns.resize(static_cast<std::size_t>(now.weight.size(1)));
    EXPECT_TRUE(test::same_bits(rows(rows(conv->weight, 0, origin.out), 1, columns), now.weight))
        << original[id].name;
    if (conv->bias.defined()) {
      EXPECT_TRUE(test::same_bits(rows(conv->bias, 0, origin.out), now.bias));
    }
  }
}

Graph concat_with_blocks() {
  return test::concat_graph(2);
}
Graph concat_without_blocks() {
  return test::concat_graph(1);
}

struct Case {
  const char* name;
  Graph (*make)();
  std::int64_t channels;
};

class Sorting : public testing::TestWithParam<Case> {};

TEST_P(Sorting, KeepsLogits) {
  int moved = 0;
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    SCOPED_TRACE(seed);
    at::manual_seed(seed);
    const Graph graph = GetParam().make();
    const auto images = at::randn({5, GetParam().channels, 8, 8});
    const auto before = logits(graph, images);
    for (const auto how : {GroupScore::kMean, GroupScore::kFirst}) {
      const Graph sorted = sort_channels(graph, test::random_scores(graph, seed), how);
      moved += !sorted.origin.empty();
      EXPECT_LE(test::relative_difference(before, logits(sorted, images)), test::kFloats);
    }
  }
  EXPECT_GE(moved, 10);
}

TEST_P(Sorting, OriginNamesTheChannelsOfTheFirstModelHoweverOftenItIsSorted) {
  at::manual_seed(7);
  const Graph graph = GetParam().make();
  const Graph once = sort_channels(graph, test::random_scores(graph, 1));
  const Graph twice = sort_channels(once, test::random_scores(once, 2));
  expect_origin_explains(graph, once);
  expect_origin_explains(graph, twice);
}

INSTANTIATE_TEST_SUITE_P(Nets, Sorting,
                         testing::Values(Case{"residual", test::plain_residual, 3},
                                         Case{"hardened", test::residual_graph, 3},
                                         Case{"vgg", test::vgg_like, 3},
                                         Case{"blocked", concat_with_blocks, 4},
                                         Case{"grouped", test::grouped_graph, 3},
                                         Case{"concat", concat_without_blocks, 4}),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(SortingOrder, OfAChannelUsedByOneConvolutionIsDescending) {
  at::manual_seed(1);
  const Graph graph = test::plain_residual();
  const auto norms = importance_method("l2-norm");
  const Graph sorted = sort_channels(graph, norms->score({graph}));
  // The filters' columns are permuted too, so that their norms stay up to rounding.
  for (const auto& layer : norms->score({sorted})) {
    if (layer.layer != "layer1.0.conv1" && layer.layer != "layer2.0.conv1") continue;
    for (std::size_t c = 1; c < layer.scores.size(); ++c) {
      EXPECT_GE(layer.scores[c - 1], layer.scores[c] - 1e-9) << layer.layer;
    }
  }
}

/// Scores of the residual net whose two groups with several members order differently by member.
ChannelScores contradicting(const Graph& graph) {
  auto scores = test::random_scores(graph, 1);
  for (auto& layer : scores) {
    if (layer.layer == "conv1") layer.scores = {1, 2, 3, 4, 5, 6};
    if (layer.layer == "layer1.0.conv2") layer.scores = {1e3, 0, 0, 0, 0, 0};
    if (layer.layer == "layer2.0.downsample.0") layer.scores = {8, 7, 6, 5, 4, 3, 2, 1};
    if (layer.layer == "layer2.0.conv2") layer.scores = {1, 2, 3, 4, 5, 6, 7, 8};
  }
  return scores;
}

TEST(SortingOrder, FirstIsTheFirstMemberInTheStateDict) {
  at::manual_seed(1);
  const Graph graph = test::plain_residual();
  const Graph sorted = sort_channels(graph, contradicting(graph), GroupScore::kFirst);
  EXPECT_THAT(sorted.origin.at("conv1").out, ElementsAre(5, 4, 3, 2, 1, 0));
  EXPECT_THAT(sorted.origin.at("layer1.0.conv2").out, ElementsAre(5, 4, 3, 2, 1, 0));
  // conv2, although the shortcut's convolution is executed before it.
  EXPECT_THAT(sorted.origin.at("layer2.0.downsample.0").out, ElementsAre(7, 6, 5, 4, 3, 2, 1, 0));
  EXPECT_THAT(sorted.origin.at("fc").in, ElementsAre(7, 6, 5, 4, 3, 2, 1, 0));
}

TEST(SortingOrder, MeanIsOfScoresScaledToSumOne) {
  at::manual_seed(1);
  const Graph graph = test::plain_residual();
  const Graph sorted = sort_channels(graph, contradicting(graph), GroupScore::kMean);
  // Channel 0: (1/21 + 1)/2, channel c: ((c + 1)/21)/2; the second group is all ties.
  EXPECT_THAT(sorted.origin.at("conv1").out, ElementsAre(0, 5, 4, 3, 2, 1));
  EXPECT_EQ(sorted.origin.count("layer2.0.downsample.0")
                ? sorted.origin.at("layer2.0.downsample.0").out.size()
                : 0,
            0u);
}

TEST(SortingOrder, ANanScoreGoesLastAndLeavesTheOthersInOrder) {
  at::manual_seed(1);
  const Graph graph = test::plain_residual();
  auto scores = contradicting(graph);
  scores[0].scores[0] = NAN;
  const Graph sorted = sort_channels(graph, scores, GroupScore::kMean);
  EXPECT_THAT(sorted.origin.at("conv1").out, ElementsAre(5, 4, 3, 2, 1, 0));
}

TEST(SortingOrder, HiddenLinearLayersStay) {
  at::manual_seed(1);
  const Graph graph = test::vgg_like();
  const Graph sorted = sort_channels(graph, test::random_scores(graph, 4));
  EXPECT_TRUE(sorted.origin.at("classifier.0").out.empty());
  EXPECT_EQ(sorted.origin.at("classifier.0").in.size(), 32u);
  EXPECT_EQ(sorted.origin.count("classifier.3"), 0u);
}

TEST(SortingOrder, ScoresOfAnotherGraphAreABug) {
  const Graph graph = test::plain_residual();
  auto scores = test::random_scores(graph, 1);
  scores[2].scores.pop_back();
  EXPECT_THROW(sort_channels(graph, scores), Bug);
  scores = test::random_scores(graph, 1);
  scores.pop_back();
  EXPECT_THROW(sort_channels(graph, scores), Bug);
}

TEST(GroupOrders, AreTheOnesThatSortingUses) {
  at::manual_seed(1);
  const Graph graph = test::plain_residual();
  for (const auto how : {GroupScore::kMean, GroupScore::kFirst}) {
    const Graph sorted = sort_channels(graph, contradicting(graph), how);
    std::size_t convolutions = 0;
    for (const GroupOrder& group : group_orders(graph, contradicting(graph), how)) {
      convolutions += group.layers.size();
      EXPECT_EQ(static_cast<std::int64_t>(group.order.size()), group.channels);
      for (const std::string& layer : group.layers) {
        const auto& now = origin_of(sorted, layer).out;
        EXPECT_EQ(numbers(now, group.channels),
                  group.permutable ? group.order : numbers({}, group.channels))
            << layer;
      }
    }
    EXPECT_EQ(convolutions, 6u) << "every convolution is in one group";
  }
}

TEST(GroupOrders, NameTheConvolutionsThatMoveTogether) {
  const Graph graph = test::plain_residual();
  const auto groups = group_orders(graph, contradicting(graph), GroupScore::kFirst);
  ASSERT_FALSE(groups.empty());
  EXPECT_THAT(groups.front().layers, ElementsAre("conv1", "layer1.0.conv2"));
  EXPECT_THAT(groups.front().order, ElementsAre(5, 4, 3, 2, 1, 0));
}

class RealModel : public testing::TestWithParam<std::pair<const char*, const char*>> {};

TEST_P(RealModel, SortedPredictsTheSameOn200TestImages) {
  const auto [file, name] = GetParam();
  const std::string path = test::data_folder() + "/models/" + file;
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not here";
  const Graph graph = parse_model(read_file(path), path, name, "cifar10");
  const auto images = read_dataset("cifar10", test::data_folder() + "/cifar10", Split::kTest)
                          .batch(0, 200, {})
                          .images;
  const Graph sorted = sort_channels(graph, importance_method("l2-norm")->score({graph}));
  const auto before = logits(graph, images), after = logits(sorted, images);
  EXPECT_LE(test::relative_difference(before, after), test::kFloats);
  EXPECT_TRUE(at::equal(before.argmax(1), after.argmax(1)));
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, RealModel,
                         testing::Values(std::pair("cifar10_resnet20.pth", "resnet20"),
                                         std::pair("cifar10_vgg11_bn.pth", "vgg11_bn")),
                         [](const auto& test) { return std::string(test.param.second); });

}  // namespace
}  // namespace sentinel
