// Parameters and MACs of every architecture against what its authors publish.
#include <cmath>

#include "models/checkpoint_source.hpp"
#include "models/families.hpp"
#include "sentinel/graph/profile.hpp"
#include "sentinel/models/model.hpp"
#include "unit/models_support.hpp"

namespace sentinel {
namespace {

struct Published {
  std::string name;
  double parameters;  // millions to two digits, or the exact number
  double macs;        // millions (CIFAR-10) or thousands of millions (ImageNet), to two digits
};

// README of pytorch-cifar-models, CIFAR-10.
const std::vector<Published> kCifar{
    {"resnet20", 0.27, 40.81},          {"resnet32", 0.47, 69.12},
    {"resnet44", 0.66, 97.44},          {"resnet56", 0.86, 125.75},
    {"vgg11_bn", 9.76, 153.29},         {"vgg13_bn", 9.94, 228.79},
    {"vgg16_bn", 15.25, 313.73},        {"vgg19_bn", 20.57, 398.66},
    {"mobilenetv2_x0_5", 0.70, 27.97},  {"mobilenetv2_x0_75", 1.37, 59.31},
    {"mobilenetv2_x1_0", 2.24, 87.98},  {"mobilenetv2_x1_4", 4.33, 170.07},
    {"shufflenetv2_x0_5", 0.35, 10.90}, {"shufflenetv2_x1_0", 1.26, 45.00},
    {"shufflenetv2_x1_5", 2.49, 94.26}, {"shufflenetv2_x2_0", 5.37, 187.81},
    {"repvgg_a0", 7.84, 489.08},        {"repvgg_a1", 12.82, 851.33},
    {"repvgg_a2", 26.82, 1850.10}};
// num_params and _ops of torchvision's weights.
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

TEST(Zoo, CifarNetworksHaveThePublishedParametersAndMacs) {
  for (const Published& net : kCifar) {
    const ModelCost cost = cost_of(net.name, 10);
    EXPECT_NEAR(rounded(static_cast<double>(cost.parameters) / 1e6), net.parameters, 1e-9)
        << net.name;
    EXPECT_NEAR(rounded(static_cast<double>(cost.macs) / 1e6), net.macs, 1e-9) << net.name;
  }
}

TEST(Zoo, ImageNetNetworksHaveThePublishedParametersAndMacs) {
  for (const Published& net : kImageNet) {
    const ModelCost cost = cost_of(net.name, 1000);
    EXPECT_EQ(cost.parameters, static_cast<std::int64_t>(net.parameters)) << net.name;
    EXPECT_NEAR(rounded(static_cast<double>(cost.macs) / 1e9), net.macs, 0.0101) << net.name;
  }
}

TEST(Zoo, TheTableIsWhole) {
  EXPECT_EQ(model_names().size(), kCifar.size() + kImageNet.size());
}

}  // namespace
}  // namespace sentinel
