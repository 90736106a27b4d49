#include <gmock/gmock.h>
#include <torch/script.h>

#include "sentinel/core/error.hpp"
#include "sentinel/fault/fault_space.hpp"
#include "sentinel/models/model.hpp"
#include "sentinel/models/script.hpp"
#include "sentinel/transform/folding.hpp"
#include "sentinel/transform/harden.hpp"
#include "sentinel/words/format.hpp"
#include "unit/models_support.hpp"
#include "unit/tolerances.hpp"
#include "unit/transform_support.hpp"

namespace sentinel {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

using Rules = std::vector<StoreRule>;

Rules rules(const std::vector<std::string>& texts) {
  Rules all;
  for (const std::string& text : texts) all.push_back(parse_store_rule(text));
  return all;
}

Graph stored(const Graph& graph, const Rules& how) {
  Graph copy = graph.clone();
  store_values(copy, how);
  store_bounds(copy, how);
  return copy;
}

Graph folded(const Graph& graph, const Rules& how) {
  Graph copy = graph.clone();
  fold_batch_norm(copy, how);
  store_values(copy, how);
  store_bounds(copy, how);
  return copy;
}

BatchNorm& norm_of(Graph& graph, const std::string& name) {
  return std::get<BatchNorm>(graph[graph.find(name)].op);
}

/// Every other channel of each batch norm is turned around.
Graph with_negative(Graph graph) {
  for (NodeId id = 0; id < graph.size(); ++id)
    if (auto* norm = std::get_if<BatchNorm>(&graph[id].op)) norm->weight.slice(0, 0, {}, 2).neg_();
  return graph;
}

const Conv& conv_of(const Graph& graph, const std::string& name) {
  return *as_conv(graph[graph.find(name)].op);
}

const at::Tensor& scale_of(const Graph& graph, const std::string& layer) {
  return graph.storage.at(layer + ".weight").scale;
}

bool has_norm(const Graph& graph) {
  const auto& nodes = graph.nodes();
  return std::any_of(nodes.begin(), nodes.end(),
                     [](const Node& node) { return std::holds_alternative<BatchNorm>(node.op); });
}

std::vector<Word> words_of(const Graph& graph, const std::string& layer) {
  const Storage& storage = graph.storage.at(layer + ".weight");
  const at::Tensor weight = conv_of(graph, layer).weight.contiguous();
  const std::int64_t row = weight.numel() / storage.scale.numel();
  std::vector<Word> words;
  for (std::int64_t i = 0; i < weight.numel(); ++i)
    words.push_back(encode(storage.layout.format, weight.data_ptr<float>()[i],
                           storage.scale.data_ptr<float>()[i / row]));
  return words;
}

class Folded : public testing::TestWithParam<Graph (*)()> {
 protected:
  Folded() {
    at::manual_seed(7);
    graph_ = with_negative(GetParam()());
    images_ = at::randn({6, 3, 8, 8});
  }
  Graph graph_;
  at::Tensor images_;
};

TEST_P(Folded, LogitsAreThoseOfTheNetworkThatIsNotFolded) {
  for (const std::string layout : {"int4:channel+bch:8,4", "int8", "int8+parity", "int8+secded:64",
                                   "int7+zero-space", "int21", "int26"}) {
    const Rules how = rules({"weight=" + layout});
    const Graph same = folded(graph_, how);
    EXPECT_FALSE(has_norm(same));
    EXPECT_LT(
        test::relative_difference(logits(stored(graph_, how), images_), logits(same, images_)),
        test::kFewFloats)
        << layout;
  }
}

TEST_P(Folded, WordsOfWeightsStay) {
  for (const std::string layout : {"int5", "int8+parity", "int7+zero-space"}) {
    const Rules how = rules({"weight=" + layout, "scale=fp16"});
    const Graph before = stored(graph_, rules({"weight=" + layout})), after = folded(graph_, how);
    for (const Node& node : graph_.nodes())
      if (as_conv(node.op)) {
        EXPECT_EQ(words_of(after, node.name), words_of(before, node.name)) << node.name;
      }
  }
}

TEST_P(Folded, EveryTensorIsStoredAsTheRulesSay) {
  const Graph graph =
      folded(graph_, rules({"weight=int4+bch:8,4", "bias,scale=fp16+repeat:7", "weight@f*=int8"}));
  std::size_t biases = 0;
  for (const StoredTensor& tensor : stored_tensors(graph)) {
    if (tensor.kind == TensorClass::kBound) continue;
    if (tensor.kind != TensorClass::kWeight) {
      EXPECT_EQ(layout_name(tensor.layout), "fp16+repeat:7") << tensor.name;
      const at::Tensor values = values_of(graph, tensor);
      EXPECT_TRUE(at::equal(values, values.to(at::kHalf).to(at::kFloat))) << tensor.name;
    }
    biases += tensor.kind == TensorClass::kBias ? 1 : 0;
    if (tensor.kind == TensorClass::kScale) continue;
    EXPECT_TRUE(is_stored_exactly(graph, tensor.name)) << tensor.name;
  }
  std::size_t layers = 0;
  for (const Node& node : graph.nodes()) layers += weight_bounds_of(node.op) != nullptr ? 1 : 0;
  EXPECT_EQ(biases, layers);
}

INSTANTIATE_TEST_SUITE_P(Nets, Folded,
                         testing::Values(test::plain_residual, test::vgg_like,
                                         test::residual_graph));

TEST(Folding, ScalesAndBiasesAreThoseOfTheFormula) {
  at::manual_seed(1);
  Graph graph = test::vgg_like();
  BatchNorm& norm = norm_of(graph, "features.1");
  norm.weight = at::tensor({1.5F, -2.0F, 0.5F, -0.25F, 1.0F, 3.0F});
  norm.bias = at::tensor({1.0F, 2.0F, 3.0F, 4.0F, 5.0F, 6.0F});
  norm.mean = at::tensor({0.5F, -0.5F, 0.25F, 1.0F, 2.0F, 0.0F});
  norm.var = at::full({6}, 4.0F);
  norm.eps = 0;
  const at::Tensor gain = norm.weight / 2, bias = conv_of(graph, "features.0").bias.clone();
  const at::Tensor shift = norm.bias - norm.mean * gain;
  const Rules how = rules({"weight=int8"});
  const at::Tensor scale = scale_of(stored(graph, how), "features.0").clone();
  const Graph after = folded(graph, how);
  EXPECT_TRUE(at::equal(scale_of(after, "features.0"), scale * gain));
  EXPECT_TRUE(at::allclose(conv_of(after, "features.0").bias, bias * gain + shift, 1e-6,
                           1e-6));  // two f32 roundings
  EXPECT_LT(scale_of(after, "features.0")[1].item<float>(), 0);
}

TEST(Folding, AChannelWithoutGainIsItsBias) {
  at::manual_seed(2);
  Graph graph = test::plain_residual();
  for (const float gamma : {0.0F, -0.0F, 1e-9F}) {
    norm_of(graph, "bn1").weight[2] = gamma;
    const Rules how = rules({"weight=int8+parity", "scale=fp16"});
    const Graph after = folded(graph, how);
    EXPECT_TRUE(test::same_bits(scale_of(after, "conv1")[2], at::scalar_tensor(0.0F)));
    EXPECT_TRUE(test::same_bits(conv_of(after, "conv1").weight[2], at::zeros({3, 3, 3})));
    EXPECT_TRUE(is_stored_exactly(after, "conv1.weight"));
    const at::Tensor images = at::randn({3, 3, 8, 8});
    EXPECT_LT(
        test::relative_difference(logits(stored(graph, rules({"weight=int8+parity"})), images),
                                  logits(after, images)),
        5e-3);  // of fp16 scales
  }
}

/// One convolution of two channels, both duplicated, whose outputs lie in [-1, 3] and [2, 4].
Graph with_ranges(float second_gamma) {
  Graph graph;
  NodeId x = graph.add("x", Input{3, {8, 8}}, {});
  DuplicatedConv twice = test::duplicated(test::conv(2, 3), {1, 0});
  twice.low = at::tensor({2.0F, -1.0F});
  twice.high = at::tensor({4.0F, std::numeric_limits<float>::infinity()});
  x = graph.add("conv", std::move(twice), {x});
  BatchNorm norm = test::batch_norm(2);
  norm.weight = at::tensor({2.0F, second_gamma});
  norm.bias = at::tensor({0.5F, 1.0F});
  norm.mean = at::tensor({1.0F, 3.0F});
  norm.var = at::ones({2});
  norm.eps = 0;
  x = graph.add("bn", norm, {x});
  x = graph.add("relu", Activation{}, {x});
  x = graph.add("flatten", Flatten{}, {graph.add("avgpool", AdaptiveAvgPool{}, {x})});
  graph.add("fc", test::linear(4, 2), {x});
  return graph;
}

TEST(Folding, RangesOfCorrectionsFollowTheirChannels) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const auto ranges = [](float gamma) {
    const Graph graph = folded(with_ranges(gamma), rules({"weight=int8"}));
    const auto& op = std::get<DuplicatedConv>(graph[graph.find("conv")].op);
    return std::pair(op.low, op.high);
  };
  const auto same = [](const at::Tensor& x, float a, float b) {
    return at::equal(x, at::tensor({a, b}));
  };
  // Channel 1 is y - 2, channel 0 is 2 y - 1.5.
  EXPECT_TRUE(same(ranges(1).first, 0, -3.5) && same(ranges(1).second, 2, kInfinity));
  // Channel 1 is 7 - 2 y: its ends change places.
  EXPECT_TRUE(same(ranges(-2).first, -1, -3.5) && same(ranges(-2).second, 3, kInfinity));
  EXPECT_TRUE(same(ranges(0).first, -kInfinity, -3.5));
  EXPECT_TRUE(same(ranges(0).second, kInfinity, kInfinity));
}

/// Wrong rows in a network that was hardened before it is folded.
TEST(Folding, CorrectionsStillRepair) {
  at::manual_seed(3);
  const Graph graph = with_negative(test::plain_residual());
  const Dataset images = test::quadrants(40, 3);
  const at::Tensor batch = images.batch(0, 40, {}).images;
  HardeningPlan plan;
  plan.duplication.ratio = 0.4;
  plan.restricted = false;
  const ChannelScores scores = test::random_scores(graph, 3);
  const Graph hardened = harden(graph, scores, plan, images, Comm::local(), at::kCPU);
  Graph after = folded(hardened, rules({"weight=int8"}));
  const at::Tensor golden = logits(after, batch);
  for (const LayerScores& layer : scores) {
    auto& op = std::get<DuplicatedConv>(after[after.find(layer.layer)].op);
    for (const std::int64_t row : {op.duplicated[0], op.out_channels()}) {
      const at::Tensor weight = op.conv.weight.clone();
      op.conv.weight[row].fill_(1e6);
      EXPECT_LE(test::relative_difference(golden, logits(after, batch)), test::kFloats)
          << layer.layer;
      op.conv.weight = weight;
    }
  }
}

TEST(Folding, HardenedNetworksGiveTheLogitsOfTheUnprotected) {
  at::manual_seed(4);
  const Graph graph = with_negative(test::vgg_like());
  const Dataset images = test::quadrants(40, 4);
  const at::Tensor batch = images.batch(0, 40, {}).images;
  const ChannelScores scores = test::random_scores(graph, 4);
  HardeningPlan plan;
  plan.store = rules({"weight=int6+bch:32,6", "bias,scale=fp16+repeat:3", "bound=fp32+repeat:3"});
  plan.fold_batch_norm = true;
  const at::Tensor plain = logits(folded(graph, rules({"weight=int6", "bias,scale=fp16"})), batch);
  for (const auto selection : {RowLayout::kOwn, RowLayout::kGroup})
    for (const auto correction : {Correction::kRange, Correction::kMin})
      for (const auto clipping : {Clipping::kRanger, Clipping::kRangerClamp}) {
        plan.duplication = {0.4, selection, correction, GroupScore::kMean};
        plan.clipping = clipping;
        plan.weight_bounds = WeightBoundsPer::kChannel;
        const Graph hardened = harden(graph, scores, plan, images, Comm::local(), at::kCPU);
        EXPECT_FALSE(has_norm(hardened));
        EXPECT_LT(test::relative_difference(plain, logits(hardened, batch)), test::kFewFloats);
      }
}

/// A ResNet-20 as after training, with some negative gammas.
Graph trained() {
  at::manual_seed(5);
  Graph graph = initial_model("resnet20", 10, 5);
  graph.dataset = "cifar10";
  for (NodeId id = 0; id < graph.size(); ++id)
    if (auto* norm = std::get_if<BatchNorm>(&graph[id].op)) {
      norm->weight = at::randn_like(norm->weight);
      norm->bias = at::randn_like(norm->bias);
      norm->var = at::rand_like(norm->var) + 0.5;
    }
  return graph;
}

TEST(Folding, AFileOfItNeedsNoOptions) {
  const Graph plain = trained();
  Graph twice = plain.clone();
  test::protect(twice, RowLayout::kGroup, Correction::kRange, false);
  const Rules how = rules({"weight=int5+bch:16,5", "bias,scale=fp16+repeat:15"});
  for (const Graph* graph : {&plain, static_cast<const Graph*>(&twice)}) {
    const Graph before = folded(*graph, how);
    const Bytes file = serialize_model(before, {});
    const Graph after = parse_model(file, "folded.pth", "", "");
    test::expect_same_graph(after, before);
    EXPECT_TRUE(after.folded);
    EXPECT_EQ(serialize_model(after, {}), file);
    const at::Tensor images = at::randn({2, 3, 32, 32});
    EXPECT_TRUE(test::same_bits(logits(after, images), logits(before, images)));
    EXPECT_FALSE(is_narrowed(after));
    EXPECT_EQ(after.architecture, "resnet20");
  }
}

TEST(Folding, ItsExportHasTheSameLogits) {
  const Graph graph = folded(trained(), rules({"weight=int8", "bias,scale=fp16"}));
  const std::string path = testing::TempDir() + "/folded.ts";
  export_script(graph, path);
  const at::Tensor images = at::randn({2, 3, 32, 32});
  const at::Tensor theirs = torch::jit::load(path).forward({images}).toTensor();
  EXPECT_LT(test::relative_difference(logits(graph, images), theirs), test::kFewFloats);
}

TEST(Folding, BiasesStandBehindTheirWeights) {
  const StateDict entries = state_dict(folded(trained(), rules({"weight=int8"})));
  std::vector<std::string> names;
  for (const auto& entry : entries) names.push_back(entry.first);
  names.resize(4);
  EXPECT_THAT(names, ElementsAre("conv1.weight", "conv1.bias", "layer1.0.conv1.weight",
                                 "layer1.0.conv1.bias"));
}

TEST(Folding, FaultsInWeightsPairWithThoseOfTheNetworkThatIsNot) {
  at::manual_seed(6);
  const Graph graph = test::plain_residual();
  const Rules how = rules({"weight=int8"});
  const Graph before = stored(graph, how), after = folded(graph, how);
  const SiteMap map(before, after);
  const FaultSpace from(before), to(after);
  ASSERT_EQ(from.sites(), to.sites());
  for (std::uint64_t site = 0; site < from.sites(); site += 97) {
    const Faults moved = map.translate({from.at(site)});
    ASSERT_EQ(moved.size(), 1u);
    EXPECT_EQ(to.tensors()[moved[0].tensor].name, from.tensors()[from.at(site).tensor].name);
    EXPECT_EQ(moved[0].element, from.at(site).element);
  }
}

std::string error_of(const Graph& graph, const std::vector<std::string>& how) {
  return test::error_of<UserError>([&] { folded(graph, rules(how)); });
}

TEST(Folding, SaysWhatStays) {
  at::manual_seed(8);
  Graph net = test::vgg_like();
  const Folding some =
      fold_batch_norm(net, rules({"weight=int8", "weight@features.4=int8:tensor"}));
  EXPECT_THAT(some.folded, ElementsAre("features.1"));
  EXPECT_EQ(in_words(some),
            "1 batch norm folded; 1 stays, with weights before it that have another format "
            "(features.5)");
  EXPECT_TRUE(has_norm(net));
  const std::string needs = "per channel: store weight=int8:channel";
  EXPECT_THAT(error_of(test::concat_graph(), {"weight=int8"}),
              testing::AllOf(HasSubstr("no convolution before it (bn)"), HasSubstr(needs)));
  for (const std::string other : {"fp16", "int8:tensor", "fp8:e4m3", "fixed:3.4"})
    EXPECT_THAT(
        error_of(test::vgg_like(), {"weight=" + other}),
        testing::AllOf(HasSubstr("another format (features.1, features.5)"), HasSubstr(needs)));
  EXPECT_THAT(error_of(test::grouped_graph(), {"weight=fp16"}), HasSubstr("2 stay"));
}

TEST(Folding, AConvolutionThatOthersReadKeepsItsBatchNorm) {
  at::manual_seed(9);
  Graph graph;
  NodeId x = graph.add("x", Input{3, {8, 8}}, {});
  const NodeId before = graph.add("conv", test::conv(4, 3), {x});
  x = graph.add("bn", test::batch_norm(4), {before});
  x = graph.add("add", Add{}, {x, before});
  x = graph.add("flatten", Flatten{}, {graph.add("avgpool", AdaptiveAvgPool{}, {x})});
  graph.add("fc", test::linear(4, 4), {x});
  EXPECT_THAT(error_of(graph, {"weight=int8"}), HasSubstr("others read too (bn)"));
}

TEST(Folding, RefusesWhatItCannotHold) {
  at::manual_seed(10);
  Graph graph = test::plain_residual();
  EXPECT_THAT(error_of(bound_weights(graph, WeightBoundsPer::kLayer), {"weight=int8"}),
              HasSubstr("conv1 already has weight bounds"));
  norm_of(graph, "bn1").weight[0] = 1e8;
  EXPECT_THAT(error_of(graph, {"weight=int8", "scale=fp16"}), HasSubstr("scale of conv1"));
  EXPECT_EQ(error_of(graph, {"weight=int8", "scale=bf16"}), "");
  norm_of(graph, "bn1").bias[0] = INFINITY;
  EXPECT_THAT(error_of(graph, {"weight=int8"}), HasSubstr("bias of conv1"));
  std::get<Conv>(graph[graph.find("conv1")].op).weight[0][0][0][0] = NAN;
  EXPECT_THAT(error_of(graph, {"weight=int8"}), HasSubstr("weight of conv1"));
}

TEST(Folding, NeedsARuleForIntegerWeights) {
  EXPECT_NO_THROW(require_foldable(rules({"bias=fp16", "weight@conv1=int4+bch:8,4"})));
  EXPECT_NO_THROW(require_foldable(rules({"parameters=int8"})));
  EXPECT_THROW(require_foldable({}), UserError);
  for (const std::string rule : {"weight=fp16", "weight=int8:tensor", "bias=int8"})
    EXPECT_THROW(require_foldable(rules({rule})), UserError) << rule;
}

}  // namespace
}  // namespace sentinel
