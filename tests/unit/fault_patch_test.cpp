#include <gtest/gtest.h>

#include <cstring>

#include "fault/channel_patch.hpp"
#include "sentinel/fault/trial_engine.hpp"
#include "unit/fault_nets.hpp"

namespace sentinel {
namespace {

constexpr std::int64_t kImages = 24;

std::vector<std::string> names(const Graph& graph, const std::vector<NodeId>& nodes) {
  std::vector<std::string> result;
  for (const NodeId id : nodes) result.push_back(graph[id].name);
  return result;
}

using Names = std::vector<std::string>;

TEST(PatchRoute, FollowsAChannelToTheNextWeight) {
  const Graph graph = testing::residual_net();
  const auto route = patch_route(graph, graph.find("layer1.0.conv2"));
  ASSERT_TRUE(route);
  EXPECT_EQ(names(graph, route->path),
            (Names{"layer1.0.conv2", "layer1.0.conv2.bn", "layer1.0.add", "layer1.0.relu_1"}));
  EXPECT_EQ(graph[route->resume].name, "layer2.0.conv1");
  EXPECT_EQ(names(graph, route->changed), (Names{"layer1.0.relu_1"}));
  EXPECT_EQ(graph[route->given.at(0)].name, "layer1.0.relu");
  EXPECT_EQ(graph[route->given.at(1)].name, "relu");  // the shortcut
}

TEST(PatchRoute, StopsBeforeAnotherConvolutionThatReadsSomethingElse) {
  const Graph graph = testing::residual_net();
  // The projection runs after conv2 and before their sum.
  const auto route = patch_route(graph, graph.find("layer2.0.conv2"));
  ASSERT_TRUE(route);
  EXPECT_EQ(graph[route->resume].name, "layer2.0.downsample");
  EXPECT_EQ(names(graph, route->changed), (Names{"layer2.0.conv2.bn"}));
  // Maps of one pixel may be flattened.
  const auto last = patch_route(graph, graph.find("layer2.0.downsample"));
  ASSERT_TRUE(last);
  EXPECT_EQ(graph[last->resume].name, "fc");
  EXPECT_EQ(names(graph, last->changed), (Names{"flatten"}));
}

TEST(PatchRoute, IsRefusedWhereTheFaultLeavesItsChannel) {
  const Graph plain = testing::plain_net();
  EXPECT_TRUE(patch_route(plain, plain.find("features.0")));
  EXPECT_FALSE(patch_route(plain, plain.find("features.3")));  // flattens 3x3 maps
  EXPECT_FALSE(patch_route(plain, plain.find("classifier.0")));
  const Graph hard = testing::hardened(plain, testing::random_images(4).images);
  EXPECT_FALSE(patch_route(hard, hard.find("features.0")));
}

TEST(ChannelPatcher, TakesTheFaultsOfOneFilterAndNoOthers) {
  const Graph graph = testing::residual_net();
  const PrefixCache cache(graph, {testing::random_images(4).images}, 1u << 30);
  const ChannelPatcher patcher(graph, cache);
  const FaultSpace space(graph);
  const std::uint64_t row = 8 * 9;  // layer1.0.conv1 is tensor 1
  const FilterId filter = patcher.filter_of(space, {{1, 2 * row, 3}, {1, 3 * row - 1, 30}});
  EXPECT_EQ(graph[filter.conv].name, "layer1.0.conv1");
  EXPECT_EQ(filter.channel, 2);
  EXPECT_EQ(patcher.filter_of(space, {{1, 2 * row, 3}, {1, 3 * row, 30}}).conv, -1);
  EXPECT_EQ(patcher.filter_of(space, {{0, 0, 3}, {1, 0, 30}}).conv, -1);
  const auto last = static_cast<std::uint32_t>(space.tensors().size() - 1);
  EXPECT_EQ(patcher.filter_of(space, {{last, 0, 3}}).conv, -1);  // linear
}

/// Grouped and strided convolutions with bias, bounds per channel, a shuffle.
Graph grouped_net() {
  testing::Builder b(21);
  NodeId x = b.graph.add("conv1", b.conv(3, 8, 3, 1, true), {0});
  x = b.graph.add("relu", BoundedRelu{at::full({8}, 2.0F), Clipping::kRangerClamp}, {x});
  Conv grouped = b.conv(4, 8, 3, 2, true);
  grouped.groups = 2;
  x = b.graph.add("conv2", grouped, {x});
  x = b.graph.add("pool", AvgPool{}, {x});
  x = b.graph.add("conv3", b.conv(8, 6, 1, 1, false), {x});
  x = b.graph.add("shuffle", ChannelShuffle{2}, {x});
  x = b.graph.add("conv4", b.conv(6, 6, 3, 1, false), {x});
  x = b.graph.add("relu4", Relu{}, {x});
  x = b.graph.add("avgpool", AdaptiveAvgPool{}, {x});
  x = b.graph.add("flatten", Flatten{}, {x});
  b.linear("fc", x, 6, 10);
  return std::move(b.graph);
}

/// Every tap of every filter by bit 30 (Inf, NaN, huge values, at the borders too), some other
/// bits.
std::vector<Faults> flips_of_one_filter(const FaultTensor& tensor, std::uint32_t number) {
  std::vector<Faults> trials;
  for (std::uint64_t element = 0; element < tensor.elements; ++element) {
    trials.push_back({{number, element, 30}});
    if (element % 5 == 0) trials.push_back({{number, element, 3}, {number, element, 22}});
    if (element % 7 == 0)
      trials.push_back({{number, element, 27}, {number, element, 30}, {number, element, 31}});
  }
  return trials;
}

bool near_tie(const at::Tensor& z) {
  const at::Tensor sorted = std::get<0>(z.sort(0, /*descending=*/true));
  return (sorted[0] - sorted[1]).item<double>() < 1e-4 * z.abs().max().item<double>();
}

/// Design 06: the same predicted class or DUE per image but for near ties, finite logits within
/// 1e-3 of max|z|.
void expect_agreement(TrialEngine& engine, const Faults& faults) {
  const TrialLogits fast = engine.logits(faults), reference = engine.logits_reference(faults);
  for (std::int64_t i = 0; i < kImages; ++i) {
    const at::Tensor a = fast.logits[i], b = reference.logits[i];
    const auto wanted = reference.predictions[i].item<std::int64_t>();
    const auto got = fast.predictions[i].item<std::int64_t>();
    ASSERT_EQ(got < 0, wanted < 0) << "bit " << int{faults[0].bit} << " of element "
                                   << faults[0].element << " of tensor " << faults[0].tensor;
    if (wanted < 0) continue;
    ASSERT_LE((a - b).abs().max().item<double>(), 1e-3 * b.abs().max().item<double>());
    ASSERT_TRUE(got == wanted || near_tie(b));
  }
}

class Patch : public ::testing::TestWithParam<const char*> {
 protected:
  static Graph net() {
    return GetParam() == std::string("grouped") ? grouped_net() : testing::residual_net();
  }
  static TrialEngine engine(std::uint64_t budget = 1u << 30) {
    EngineOptions options;
    options.block = 9;
    options.cache_budget = budget;
    return TrialEngine(net(), testing::random_images(kImages), options);
  }
};

TEST_P(Patch, EqualsTheReferencePath) {
  TrialEngine fast = engine();
  std::uint32_t number = 0;
  for (const FaultTensor& tensor : fast.space().tensors())
    for (const Faults& faults : flips_of_one_filter(tensor, number++))
      expect_agreement(fast, faults);
}

TEST_P(Patch, NeitherTrialsBeforeNorTheCacheChangeABit) {
  TrialEngine all = engine(), none = engine(0), fresh = engine();
  std::uint32_t number = 0;
  for (const FaultTensor& tensor : all.space().tensors()) {
    const auto trials = flips_of_one_filter(tensor, number++);
    for (std::size_t i = 0; i < trials.size(); i += 13) {
      const at::Tensor logits = all.logits(trials[i]).logits;
      EXPECT_EQ(0, std::memcmp(none.logits(trials[i]).logits.data_ptr(), logits.data_ptr(),
                               logits.nbytes()));
      all.run(trials[trials.size() - 1 - i]);  // another channel
      EXPECT_EQ(0, std::memcmp(all.logits(trials[i]).logits.data_ptr(), logits.data_ptr(),
                               logits.nbytes()));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Nets, Patch, ::testing::Values("residual", "grouped"),
                         [](const auto& net) { return std::string(net.param); });

// What a ReLU swallows is masked, bit for bit, however the channel's convolution rounds.
TEST(PatchedTrial, AChannelThatStaysOffIsMasked) {
  Graph graph = testing::residual_net();
  std::get<BatchNorm>(graph[graph.find("conv1.bn")].op).bias[2] = -1000.0F;
  TrialEngine engine(std::move(graph), testing::random_images(kImages), {});
  const std::uint64_t first = 2 * engine.space().tensors()[0].row;
  for (const int number : {0, 12, 20, 23, 31}) {
    const auto bit = static_cast<std::uint8_t>(number);
    const TrialResult result = engine.run({{0, first + 4, bit}}).result;
    EXPECT_EQ(result.masked, kImages) << number;
    EXPECT_EQ(engine.run_reference({{0, first + 4, bit}}).result.masked, kImages) << number;
  }
  EXPECT_LT(engine.run({{0, first + 4, 30}}).result.masked, kImages);
}

}  // namespace
}  // namespace sentinel
