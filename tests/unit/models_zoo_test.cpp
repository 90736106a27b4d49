// Parameters and MACs of every architecture against what its authors publish.
#include <cmath>

#include "models/checkpoint_source.hpp"
#include "models/families.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/graph/fused.hpp"
#include "sentinel/graph/profile.hpp"
#include "sentinel/models/model.hpp"
#include "unit/models_support.hpp"
#include "unit/tolerances.hpp"

namespace sentinel {
namespace {

struct Published {
  std::string name;
  std::int64_t parameters;
  double macs;  // millions (CIFAR-10) or thousands of millions (ImageNet), to two digits
};

// CIFAR-10: the README of pytorch-cifar-models, whose millions of parameters PyTorch counted out.
const std::vector<Published> kCifar{
    {"resnet20", 272474, 40.81},           {"resnet32", 466906, 69.12},
    {"resnet44", 661338, 97.44},           {"resnet56", 855770, 125.75},
    {"vgg11_bn", 9756426, 153.29},         {"vgg13_bn", 9941322, 228.79},
    {"vgg16_bn", 15253578, 313.73},        {"vgg19_bn", 20565834, 398.66},
    {"mobilenetv2_x0_5", 700490, 27.97},   {"mobilenetv2_x0_75", 1368234, 59.31},
    {"mobilenetv2_x1_0", 2236682, 87.98},  {"mobilenetv2_x1_4", 4333706, 170.07},
    {"shufflenetv2_x0_5", 352042, 10.90},  {"shufflenetv2_x1_0", 1263854, 45.00},
    {"shufflenetv2_x1_5", 2488874, 94.26}, {"shufflenetv2_x2_0", 5365486, 187.81},
    {"repvgg_a0", 7840874, 489.08},        {"repvgg_a1", 12824202, 851.33},
    {"repvgg_a2", 26815690, 1850.10}};
// What torchvision says of its weights. PyTorch counts the same parameters and MACs of either table
// (convolutions and linear layers of one image).
const std::vector<Published> kImageNet{{"alexnet", 61100840, 0.71},
                                       {"vgg11", 132863336, 7.61},
                                       {"vgg13", 133047848, 11.31},
                                       {"vgg16", 138357544, 15.47},
                                       {"vgg19", 143667240, 19.63},
                                       {"imagenet_vgg11_bn", 132868840, 7.61},
                                       {"imagenet_vgg13_bn", 133053736, 11.31},
                                       {"imagenet_vgg16_bn", 138365992, 15.47},
                                       {"imagenet_vgg19_bn", 143678248, 19.63},
                                       {"resnet18", 11689512, 1.81},
                                       {"resnet34", 21797672, 3.66},
                                       {"resnet50", 25557032, 4.09},
                                       {"resnet101", 44549160, 7.80},
                                       {"resnet152", 60192808, 11.51},
                                       {"wide_resnet50_2", 68883240, 11.40},
                                       {"resnext50_32x4d", 25028904, 4.23},
                                       {"mobilenet_v2", 3504872, 0.30},
                                       {"squeezenet1_1", 1235496, 0.35},
                                       {"googlenet", 6624904, 1.50},
                                       {"densenet121", 7978856, 2.83},
                                       {"shufflenet_v2_x1_0", 2278604, 0.14},
                                       {"mnasnet1_0", 4383312, 0.31},
                                       {"efficientnet_b0", 5288548, 0.39},
                                       {"regnet_y_400mf", 4344144, 0.40}};

/// Of the shapes alone: no tensor is made.
ModelCost cost_of(const std::string& name, std::int64_t classes) {
  const StateDict none;
  CheckpointSource shapes(none, nullptr, classes);
  return model_cost(find_family(name)->build(shapes, classes));
}

double rounded(double value) {
  return std::round(value * 100) / 100;
}

void expect_cost(const Published& net, std::int64_t classes, double unit) {
  const ModelCost cost = cost_of(net.name, classes);
  EXPECT_EQ(cost.parameters, net.parameters) << net.name;
  EXPECT_NEAR(rounded(static_cast<double>(cost.macs) / unit), net.macs, test::kDoubles) << net.name;
}

TEST(Zoo, EveryNetworkHasThePublishedParametersAndMacs) {
  for (const Published& net : kCifar) expect_cost(net, 10, 1e6);
  for (const Published& net : kImageNet) expect_cost(net, 1000, 1e9);
}

TEST(Zoo, FiltersThatTheGroupsDoNotDivideAreRefused) {
  StateDict tensors = state_dict(initial_model("mobilenetv2_x0_5", 10, 1));
  const std::string name = "features.1.conv.0.0.weight";
  tensors.set(name, tensors.find(name)->narrow(0, 0, 15));
  EXPECT_THAT(
      test::error_of<DataError>([&] { build_model("mobilenetv2_x0_5", 10, tensors, "my.pth"); }),
      testing::HasSubstr(name + " has 15 filters in 16 groups"));
}

TEST(Zoo, DenseNetsOfBefore2018Load) {
  const StateDict tensors = state_dict(initial_model("densenet121", 10, 1));
  StateDict old;
  std::int64_t renamed = 0;
  for (const auto& [name, tensor] : tensors) {
    std::string before = name;
    for (const char* kind : {"norm1.", "norm2.", "conv1.", "conv2."}) {
      const std::size_t at = name.find(kind);
      if (name.find("denselayer") == std::string::npos || at == std::string::npos) continue;
      before.insert(at + 4, ".");
      ++renamed;
    }
    old.set(before, tensor);
  }
  EXPECT_EQ(renamed, 58 * 2 * (5 + 1));
  test::expect_same_state(state_dict(build_model("densenet121", 10, old, "old.pth")), tensors);
  EXPECT_THAT(matching_models(old), testing::ElementsAre("densenet121"));
}

TEST(Zoo, TheTableIsWhole) {
  EXPECT_EQ(model_names().size(), kCifar.size() + kImageNet.size());
}

// ---- Batches ----

class Batches : public ::testing::TestWithParam<const char*> {};

/// Trials share batches of any size: an image's values must not depend on it, to the bit.
TEST_P(Batches, GiveEveryImageTheSameValues) {
  const at::NoGradGuard no_grad;
  constexpr std::int64_t kImages = 17;
  Graph graph = initial_model(GetParam(), 10, 1);
  graph.to(at::kCPU, at::MemoryFormat::ChannelsLast);
  const auto& input = std::get<Input>(graph[0].op);
  const FusedNet net(graph);
  Trace trace(static_cast<std::size_t>(graph.size()));
  at::manual_seed(3);
  trace[0] = at::randn({kImages, input.channels, input.size[0], input.size[1]})
                 .contiguous(at::MemoryFormat::ChannelsLast);
  for (NodeId id = 1; id < graph.size(); ++id) {
    if (!net.is_value(id)) continue;
    std::vector<at::Tensor> in;
    for (const NodeId i : net.inputs(id)) in.push_back(trace[static_cast<std::size_t>(i)]);
    const at::Tensor all = net.compute(id, in);
    trace[static_cast<std::size_t>(id)] = all;
    for (const std::int64_t size : {1, 2, 7, 15, 16}) {
      std::vector<at::Tensor> some;
      for (const at::Tensor& value : in) some.push_back(value.narrow(0, 1, size).clone());
      EXPECT_TRUE(
          test::same_bits(net.compute(id, some).contiguous(), all.narrow(0, 1, size).contiguous()))
          << graph[id].name << ", " << size << " images";
    }
    for (const NodeId i : net.inputs(id))
      if (net.last_reader(i) == id) trace[static_cast<std::size_t>(i)] = at::Tensor();
  }
}
INSTANTIATE_TEST_SUITE_P(Zoo, Batches,
                         ::testing::Values("resnet20", "vgg11_bn", "mobilenetv2_x0_5",
                                           "shufflenetv2_x0_5", "repvgg_a0", "mobilenet_v2",
                                           "shufflenet_v2_x1_0", "mnasnet1_0", "squeezenet1_1",
                                           "efficientnet_b0", "regnet_y_400mf", "resnet18"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace sentinel
