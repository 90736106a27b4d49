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

Names mixing(const Graph& graph, const ChannelRoute& route) {
  Names result;
  for (const MixingConv& conv : route.mixing) result.push_back(graph[conv.node].name);
  return result;
}

TEST(ChannelRoute, FollowsAChannelToTheNextWeight) {
  const Graph graph = test::residual_net();
  const FusedNet net(graph);
  const auto route = channel_route(net, graph.find("layer1.0.conv2"));
  ASSERT_TRUE(route);
  EXPECT_EQ(names(graph, route->path), (Names{"layer1.0.conv2", "layer1.0.relu_1"}));
  EXPECT_EQ(graph[route->resume].name, "layer2.0.conv1");
  EXPECT_EQ(names(graph, route->changed), (Names{"layer1.0.relu_1"}));
  EXPECT_EQ(graph[route->given.at(0)].name, "layer1.0.relu");
  EXPECT_EQ(graph[route->given.at(1)].name, "relu");  // the shortcut
  EXPECT_EQ(mixing(graph, *route), (Names{"layer2.0.conv1", "layer2.0.downsample"}));
  EXPECT_TRUE(route->mixing_only);
}

TEST(ChannelRoute, KnowsWhatElseReadsTheChannel) {
  const Graph graph = test::residual_net();
  const FusedNet net(graph);
  const auto route = channel_route(net, graph.find("conv1"));
  ASSERT_TRUE(route);
  EXPECT_EQ(mixing(graph, *route), (Names{"layer1.0.conv1"}));
  EXPECT_FALSE(route->mixing_only);  // the shortcut
}

TEST(ChannelRoute, PassesConvolutionsThatReadSomethingElse) {
  const Graph graph = test::residual_net();
  const FusedNet net(graph);
  // The projection runs after conv2 and before their sum.
  const auto route = channel_route(net, graph.find("layer2.0.conv2"));
  ASSERT_TRUE(route);
  EXPECT_EQ(names(graph, route->path),
            (Names{"layer2.0.conv2", "layer2.0.relu_1", "avgpool", "flatten"}));
  EXPECT_EQ(graph[route->given.at(1)].name, "layer2.0.downsample.bn");
  // Maps of one pixel may be flattened.
  EXPECT_EQ(graph[route->resume].name, "fc");
  EXPECT_EQ(names(graph, route->changed), (Names{"flatten"}));
  EXPECT_TRUE(route->mixing.empty());
}

TEST(ChannelRoute, IsRefusedWhereTheFaultLeavesItsChannel) {
  const Graph plain = test::plain_net();
  const FusedNet net(plain);
  EXPECT_TRUE(channel_route(net, plain.find("features.0")));
  EXPECT_FALSE(channel_route(net, plain.find("features.3")));  // flattens 3x3 maps
  EXPECT_FALSE(channel_route(net, plain.find("classifier.0")));
}

TEST(ChannelRoute, TakesDuplicatedConvolutionsAsTheirOriginalsWhileTheyAgree) {
  Graph graph = test::hardened(test::residual_net(), test::random_images(4).images);
  const NodeId next = graph.find("layer1.0.conv2");
  ASSERT_TRUE(std::holds_alternative<DuplicatedConv>(graph[next].op));
  const auto route = channel_route(FusedNet(graph), graph.find("layer1.0.conv1"));
  ASSERT_TRUE(route);
  EXPECT_EQ(mixing(graph, *route), (Names{"layer1.0.conv2"}));
  at::Tensor weight = as_conv(graph[next].op)->weight;
  weight[weight.size(0) - 1][0][0][0] += 1.0F;
  const auto other = channel_route(FusedNet(graph), graph.find("layer1.0.conv1"));
  ASSERT_TRUE(other);
  EXPECT_TRUE(other->mixing.empty());
}

/// The channel that alone is changed by faults in the weights of a graph.
ChannelId channel_of(const ChannelPatcher& patcher, const Graph& graph, const Faults& faults,
                     const Selection& selection = {}) {
  const Memory memory(graph);
  const FaultSpace space(graph, selection);
  return patcher.channel_of(memory.tensors(), memory.read(space, faults).changes);
}

TEST(ChannelPatcher, TakesTheFaultsOfOneChannelAndNoOthers) {
  const Graph graph = test::residual_net();
  const FusedNet net(graph);
  const PrefixCache cache(net, {test::random_images(4).images}, 1u << 30);
  const ChannelPatcher patcher(net, cache, 32);
  const FaultSpace space(graph);
  const std::uint64_t row = 8 * 9;  // layer1.0.conv1 is tensor 1
  const ChannelId id = channel_of(patcher, graph, {{1, 2 * row, 3}, {1, 3 * row - 1, 30}});
  EXPECT_EQ(graph[id.conv].name, "layer1.0.conv1");
  EXPECT_EQ(id.channel, 2);
  EXPECT_EQ(channel_of(patcher, graph, {{1, 2 * row, 3}, {1, 3 * row, 30}}).conv, -1);
  EXPECT_EQ(channel_of(patcher, graph, {{0, 0, 3}, {1, 0, 30}}).conv, -1);
  const auto last = static_cast<std::uint32_t>(space.tensors().size() - 1);
  EXPECT_EQ(channel_of(patcher, graph, {{last, 0, 3}}).conv, -1);  // linear
  EXPECT_EQ(channel_of(patcher, graph, {}).conv, -1);
}

TEST(ChannelPatcher, RefusesWhatAreNoWeights) {
  const Graph graph = test::plain_net();
  const FusedNet net(graph);
  const PrefixCache cache(net, {test::random_images(4).images}, 1u << 30);
  const ChannelPatcher patcher(net, cache, 32);
  Selection biases;
  biases.targets = {TensorClass::kBias};
  EXPECT_EQ(channel_of(patcher, graph, {{0, 2, 30}}, biases).conv, -1);
  EXPECT_EQ(channel_of(patcher, graph, {{0, 2, 30}}).conv, graph.find("features.0"));
}

TEST(ChannelPatcher, CountsACopyToItsOriginal) {
  const Graph graph = test::hardened(test::residual_net(), test::random_images(4).images);
  const FusedNet net(graph);
  const PrefixCache cache(net, {test::random_images(4).images}, 1u << 30);
  const ChannelPatcher patcher(net, cache, 32);
  const FaultSpace space(graph);
  const FaultTensor& tensor = space.tensors()[1];
  const auto& conv = std::get<DuplicatedConv>(graph[tensor.node].op);
  const auto original = static_cast<std::uint64_t>(conv.duplicated[0]) * tensor.row;
  const ChannelId id = channel_of(patcher, graph, {{1, original, 3}, {1, tensor.originals, 30}});
  EXPECT_EQ(id.channel, conv.duplicated[0]);
  EXPECT_EQ(patcher.rows(id).size(0), 2);
}

/// Grouped and strided convolutions with bias, bounds per channel, a shuffle.
Graph grouped_net() {
  test::Builder b(21);
  NodeId x = b.graph.add("conv1", b.conv(3, 8, 3, 1, true), {0});
  x = b.graph.add("relu", BoundedActivation{at::full({8}, 2.0F), Clipping::kRangerClamp}, {x});
  Conv grouped = b.conv(4, 8, 3, 2, true);
  grouped.groups = 2;
  x = b.graph.add("conv2", grouped, {x});
  x = b.graph.add("pool", AvgPool{}, {x});
  x = b.graph.add("conv3", b.conv(8, 6, 1, 1, false), {x});
  x = b.graph.add("shuffle", ChannelShuffle{2}, {x});
  x = b.graph.add("conv4", b.conv(6, 6, 3, 1, false), {x});
  x = b.graph.add("relu4", Activation{}, {x});
  x = b.graph.add("avgpool", AdaptiveAvgPool{}, {x});
  x = b.graph.add("flatten", Flatten{}, {x});
  b.linear("fc", x, 6, 10);
  return std::move(b.graph);
}

/// Every tap of every filter by bit 30 (Inf, NaN, huge values, at the borders too), some other
/// bits.
std::vector<Faults> flips_of_one_filter(const FaultTensor& tensor, std::uint32_t number,
                                        std::uint64_t step = 1) {
  std::vector<Faults> trials;
  for (std::uint64_t element = 0; element < tensor.elements; element += step) {
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

/// The same predicted class or DUE per image but for near ties, finite logits within
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
    if (std::string(GetParam()).rfind("grouped", 0) == 0) return grouped_net();
    if (GetParam() == std::string("pointwise")) return test::pointwise_net();
    if (GetParam() == std::string("hardened"))
      return test::hardened(test::residual_net(), test::random_images(4).images);
    return test::residual_net();
  }
  /// All taps of the small networks; copies and corrections take long.
  static std::uint64_t step() { return GetParam() == std::string("hardened") ? 5 : 1; }
  static TrialEngine engine(std::uint64_t budget = 1u << 30) {
    EngineOptions options;
    options.block = 9;
    options.cache_budget = budget;
    if (std::string(GetParam()).find("at_once") != std::string::npos) options.trials_at_once = 4;
    return TrialEngine(net(), test::random_images(kImages), options);
  }
};

TEST_P(Patch, EqualsTheReferencePath) {
  TrialEngine fast = engine();
  std::uint32_t number = 0;
  for (const FaultTensor& tensor : fast.space().tensors())
    for (const Faults& faults : flips_of_one_filter(tensor, number++, step()))
      expect_agreement(fast, faults);
}

TEST_P(Patch, NeitherTrialsBeforeNorTheCacheChangeABit) {
  TrialEngine all = engine(), none = engine(0), fresh = engine();
  std::uint32_t number = 0;
  for (const FaultTensor& tensor : all.space().tensors()) {
    const auto trials = flips_of_one_filter(tensor, number++, step());
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

// Trials of a batch in any order and company: the same rows.
TEST_P(Patch, BatchMatesChangeNothing) {
  TrialEngine alone = engine(), together = engine(1u << 16);
  std::vector<TrialInput> trials;
  std::uint32_t number = 0;
  for (const FaultTensor& tensor : alone.space().tensors())
    for (const Faults& faults : flips_of_one_filter(tensor, number++, 4 * step() + 1))
      trials.push_back({faults, kNoGroup});
  trials.push_back({{}, kNoGroup});
  trials.push_back({{{0, 1, 30}, {1, 2, 30}}, kNoGroup});
  trials.push_back(trials.front());
  Rng rng({7, 0, 0, Purpose::kInitialWeights});
  const std::vector<std::int64_t> order = rng.permutation(static_cast<std::int64_t>(trials.size()));
  std::vector<TrialInput> shuffled;
  for (const std::int64_t i : order) shuffled.push_back(trials[static_cast<std::size_t>(i)]);
  const std::vector<TrialOutcome> outcomes = together.run_batch(shuffled);
  ASSERT_EQ(outcomes.size(), trials.size());
  for (std::size_t i = 0; i < shuffled.size(); ++i) {
    const TrialOutcome wanted = alone.run(shuffled[i].faults);
    ASSERT_TRUE(test::same_result(outcomes[i].result, wanted.result)) << i;
    ASSERT_EQ(outcomes[i].faults.size(), wanted.faults.size());
    for (std::size_t f = 0; f < wanted.faults.size(); ++f) {
      EXPECT_TRUE(outcomes[i].faults[f].site == wanted.faults[f].site);
      EXPECT_EQ(outcomes[i].faults[f].before, wanted.faults[f].before);
      EXPECT_EQ(outcomes[i].faults[f].after, wanted.faults[f].after);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Nets, Patch,
                         ::testing::Values("residual", "grouped", "hardened", "pointwise",
                                           "grouped_at_once"),
                         [](const auto& net) { return std::string(net.param); });

// What a ReLU swallows is masked, bit for bit, however the channel's convolution rounds.
TEST(PatchedTrial, AChannelThatStaysOffIsMasked) {
  Graph graph = test::residual_net();
  std::get<BatchNorm>(graph[graph.find("conv1.bn")].op).bias[2] = -1000.0F;
  TrialEngine engine(std::move(graph), test::random_images(kImages), {});
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
