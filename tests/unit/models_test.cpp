#include "sentinel/models/model.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "sentinel/core/error.hpp"
#include "sentinel/core/file.hpp"
#include "sentinel/graph/channels.hpp"
#include "sentinel/graph/profile.hpp"
#include "sentinel/graph/run.hpp"
#include "unit/models_support.hpp"

namespace sentinel {
namespace {

using namespace test;
using testing::ElementsAre;
using testing::HasSubstr;

// ---- building ----

TEST(Models, NamesAreSortedAndKnown) {
  const std::vector<std::string> names = model_names();
  EXPECT_TRUE(std::is_sorted(names.begin(), names.end()));
  for (const std::string name : {"resnet20", "vgg16_bn", "mobilenetv2_x0_5", "shufflenetv2_x0_5"}) {
    const Graph g = initial_model(name, 100, 1);
    EXPECT_EQ(class_count(g), 100) << name;
    EXPECT_THAT(matching_models(state_dict(g)), testing::Contains(name));
  }
  EXPECT_THAT(matching_models(state_dict(initial_model("resnet20", 100, 1))),
              ElementsAre("resnet20"));
  EXPECT_THAT(error_of<UserError>([] { initial_model("resnet21", 10, 1); }), HasSubstr("resnet20"));
}

TEST(Models, EveryArchitectureKnowsItsWidths) {
  Graph graph = initial_model("resnet20", 10, 1);
  EXPECT_FALSE(is_narrowed(graph));
  for (const std::string& name : model_names()) {
    graph.architecture = name;
    EXPECT_NO_THROW(is_narrowed(graph)) << name;
  }
  graph.architecture = "Net.ts";
  EXPECT_FALSE(is_narrowed(graph));
}

TEST(Models, CostOfResNet20AndVgg11) {
  const ModelCost resnet = model_cost(initial_model("resnet20", 10, 1));
  EXPECT_EQ(resnet.parameters, 272474);
  EXPECT_EQ(resnet.macs, 40813184);
  const ModelCost vgg = model_cost(initial_model("vgg11_bn", 10, 1));
  // Published for pytorch-cifar-models: 9.76 M, and 153.29 M with additions of biases and the like.
  EXPECT_EQ(vgg.parameters, 9756426);
  EXPECT_NEAR(static_cast<double>(vgg.macs), 153.29e6, 0.4e6);
}

TEST(Models, InitialisationHasTheRightScaleAndIsReproducible) {
  const Graph a = initial_model("resnet20", 10, 5), b = initial_model("resnet20", 10, 5);
  expect_same_graph(a, b);
  const auto weight = as_conv(a[a.find("layer3.1.conv2")].op)->weight;
  const auto other = as_conv(initial_model("resnet20", 10, 6)[a.find("layer3.1.conv2")].op)->weight;
  EXPECT_FALSE(same_bits(weight, other));
  // 36 864 normal numbers: their standard deviation is known to 0.4 %.
  EXPECT_NEAR(weight.std().item<double>(), std::sqrt(2.0 / (64 * 9)), 0.02 * std::sqrt(2.0 / 576));
  const auto& fc = std::get<Linear>(a[a.find("fc")].op);
  EXPECT_LE(fc.weight.abs().max().item<double>(), 1.0 / 8);
  EXPECT_GT(fc.weight.abs().max().item<double>(), 0.95 / 8);
  const Graph vgg = initial_model("vgg11_bn", 10, 5);
  EXPECT_NEAR(std::get<Linear>(vgg[vgg.find("classifier.0")].op).weight.std().item<double>(), 0.01,
              1e-4);  // 262 144 numbers: known to 0.14 %
}

TEST(Models, CallSitesAreNamedAsTorchvisionDoes) {
  const Graph g = initial_model("resnet20", 10, 1);
  std::vector<std::string> relus;
  for (const Node& node : g.nodes()) {
    if (std::holds_alternative<Activation>(node.op)) relus.push_back(node.name);
  }
  ASSERT_EQ(relus.size(), 19U);
  EXPECT_EQ(relus[0], "relu");
  EXPECT_EQ(relus[1], "layer1.0.relu");
  EXPECT_EQ(relus[2], "layer1.0.relu_1");
  EXPECT_EQ(relus[18], "layer3.2.relu_1");
  EXPECT_EQ(g[0].name, "x");
  EXPECT_EQ(g[g.size() - 2].name, "flatten");
  EXPECT_EQ(g[g.size() - 1].name, "fc");
  const Graph vgg = initial_model("vgg11_bn", 10, 1);
  EXPECT_TRUE(std::holds_alternative<MaxPool>(vgg[vgg.find("features.28")].op));
  EXPECT_TRUE(std::holds_alternative<Linear>(vgg[vgg.find("classifier.6")].op));
}

TEST(Models, GroupsOfResNet20) {
  const Graph g = initial_model("resnet20", 10, 1);
  std::vector<std::vector<std::string>> producers;
  for (const ChannelGroup& group : channel_groups(g)) {
    producers.emplace_back();
    for (const NodeId id : group.producers) producers.back().push_back(g[id].name);
    EXPECT_EQ(group.permutable, producers.back().front() != "fc");
  }
  ASSERT_EQ(producers.size(), 3U + 9U + 1U);
  EXPECT_THAT(producers[0],
              ElementsAre("conv1", "layer1.0.conv2", "layer1.1.conv2", "layer1.2.conv2"));
  EXPECT_THAT(producers[1], ElementsAre("layer1.0.conv1"));
  EXPECT_THAT(producers[5], ElementsAre("layer2.0.conv2", "layer2.0.downsample.0", "layer2.1.conv2",
                                        "layer2.2.conv2"));
}

TEST(Models, GroupsOfVgg11AreSingle) {
  const Graph g = initial_model("vgg11_bn", 10, 1);
  const auto groups = channel_groups(g);
  ASSERT_EQ(groups.size(), 11U);  // 8 convolutions, 3 linear layers
  for (const ChannelGroup& group : groups) EXPECT_EQ(group.producers.size(), 1U);
  EXPECT_FALSE(groups.back().permutable);
  EXPECT_EQ(g[groups[7].members.back().node].name, "classifier.0");
  EXPECT_EQ(groups[7].members.back().side, GroupMember::Side::kIn);
}

// ---- wrong state_dicts ----

TEST(Models, ListsMissingUnexpectedAndMisshapenTogether) {
  StateDict tensors = without(state_dict(initial_model("resnet20", 10, 1)), "bn1.bias");
  tensors.set("extra.weight", at::zeros({2}));
  tensors.set("layer2.1.bn1.weight", at::zeros({31}));
  const std::string text =
      error_of<DataError>([&] { build_model("resnet20", 10, tensors, "my.pth"); });
  EXPECT_THAT(text, HasSubstr("my.pth"));
  EXPECT_THAT(text, HasSubstr("1 missing entry (bn1.bias)"));
  EXPECT_THAT(text, HasSubstr("1 unexpected entry (extra.weight)"));
  EXPECT_THAT(text, HasSubstr("layer2.1.bn1.weight is [31], expected [32]"));
  EXPECT_THAT(text, HasSubstr("none of the known models fits"));
}

TEST(Models, AdvisesTheModelThatFits) {
  const StateDict tensors = state_dict(initial_model("resnet32", 100, 1));
  const std::string text =
      error_of<DataError>([&] { build_model("resnet20", 100, tensors, "my.pth"); });
  EXPECT_THAT(text, HasSubstr("72 unexpected entries"));
  EXPECT_THAT(text, HasSubstr("more)"));
  EXPECT_THAT(text, HasSubstr("it fits model resnet32"));
}

TEST(Models, NamesAWrongClassCount) {
  const StateDict tensors = state_dict(initial_model("resnet20", 100, 1));
  const std::string text =
      error_of<DataError>([&] { build_model("resnet20", 10, tensors, "my.pth"); });
  EXPECT_THAT(text, HasSubstr("fc.weight is for 100 classes, the data set has 10"));
}

TEST(Models, BranchesOfDifferentWidthsAreAnError) {
  StateDict tensors = state_dict(initial_model("resnet20", 10, 1));
  for (const char* name : {"layer1.1.bn2.weight", "layer1.1.bn2.bias", "layer1.1.bn2.running_mean",
                           "layer1.1.bn2.running_var"}) {
    tensors.set(name, at::ones({15}));
  }
  tensors.set("layer1.1.conv2.weight", at::ones({15, 16, 3, 3}));
  EXPECT_THAT(error_of<DataError>([&] { build_model("resnet20", 10, tensors, "my.pth"); }),
              HasSubstr("layer1.1.add have 15 and 16 channels"));
}

TEST(Models, OtherFloatTypesBecomeFloat32AndTheCounterIsOptional) {
  const StateDict full = state_dict(initial_model("resnet20", 10, 1));
  StateDict half;
  for (const auto& [name, tensor] : full) {
    if (tensor.scalar_type() == at::kFloat) half.set(name, tensor.to(at::kHalf));
  }
  const Graph g = build_model("resnet20", 10, half, "my.pth");
  const StateDict again = state_dict(g);
  EXPECT_EQ(again.size(), half.size());
  for (const auto& [name, tensor] : again) {
    EXPECT_TRUE(same_bits(tensor, half.find(name)->to(at::kFloat))) << name;
  }
  half.set("bn1.weight", at::ones({16}, at::kInt));
  EXPECT_THAT(error_of<DataError>([&] { build_model("resnet20", 10, half, "my.pth"); }),
              HasSubstr("bn1.weight holds integers"));
}

TEST(Models, TheBatchCounterMayHaveAnyNumberType) {
  StateDict tensors = state_dict(initial_model("resnet20", 10, 1));
  const auto counter = [&](const at::Tensor& stored) {
    tensors.set("bn1.num_batches_tracked", stored);
    const Graph g = build_model("resnet20", 10, tensors, "my.pth");
    return std::get<BatchNorm>(g[g.find("bn1")].op).batches_tracked;
  };
  const at::Tensor seven = at::scalar_tensor(7, at::kLong);
  for (const auto type : {at::kLong, at::kInt, at::kFloat, at::kHalf}) {
    EXPECT_TRUE(same_bits(counter(seven.to(type)), seven));
    EXPECT_TRUE(same_bits(counter(seven.to(type).reshape({1})), seven));
  }
  for (const at::Tensor& bad :
       {at::ones({2}, at::kLong), at::zeros({0}), at::full({}, NAN), at::ones({}, at::kBool)}) {
    EXPECT_THAT(error_of<DataError>([&] { counter(bad); }),
                HasSubstr("bn1.num_batches_tracked is not one number"));
  }
}

TEST(Models, AbsurdShapesAreCheapErrors) {
  StateDict tensors = state_dict(initial_model("resnet20", 10, 1));
  for (const char* name : {"conv1.weight", "layer1.0.conv1.weight", "layer3.2.conv2.weight"}) {
    tensors.set(name, at::zeros({}).expand({std::int64_t{1} << 40, 1, 1, 1}));
  }
  tensors.set("bn1.weight", at::zeros({0}));
  EXPECT_THROW(build_model("resnet20", 10, tensors, "my.pth"), DataError);
  EXPECT_TRUE(matching_models(tensors).empty());
  EXPECT_TRUE(matching_models(StateDict{}).empty());
}

}  // namespace
}  // namespace sentinel
