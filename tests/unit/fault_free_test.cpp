#include <gmock/gmock.h>

#include <limits>

#include "sentinel/core/error.hpp"
#include "sentinel/fault/fault_free.hpp"
#include "unit/fault_nets.hpp"

namespace sentinel {
namespace {

using ::testing::HasSubstr;
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

TEST(FaultFreeLogits, CountsImagesOverAllBatches) {
  FaultFreeLogits logits;
  logits.add(at::tensor({1.0f, 2.0f, 3.0f, 4.0f}).view({2, 2}));
  EXPECT_EQ(logits.first_not_finite(), -1);
  logits.add(at::tensor({1.0f, 2.0f, kNaN, 4.0f, kInf, -kInf}).view({3, 2}));
  EXPECT_EQ(logits.images(), 5);
  EXPECT_EQ(logits.not_finite(), 2);
  EXPECT_EQ(logits.first_not_finite(), 3);
  EXPECT_FALSE(logits.constant());
}

TEST(FaultFreeLogits, AreConstantWhereAllImagesHaveTheSame) {
  FaultFreeLogits logits;
  const at::Tensor row = at::tensor({1.0f, 2.0f}).view({1, 2});
  logits.add(row);
  EXPECT_FALSE(logits.constant()) << "one image tells nothing";
  logits.add(row.repeat({3, 1}));
  EXPECT_TRUE(logits.constant());
  logits.add(row + 1e-6f);
  EXPECT_FALSE(logits.constant());
  FaultFreeLogits broken;
  broken.add(at::full({3, 2}, kNaN));
  EXPECT_FALSE(broken.constant()) << "counted otherwise";
}

/// A convolution, its normalisation and a linear layer.
struct Net {
  Graph graph;
  at::Tensor weight = at::ones({2, 1, 1, 1}), var = at::ones({2}), bias = at::zeros({3});

  Graph build() const {
    Graph g;
    g.add("input", Input{1, {2, 2}}, {});
    Conv conv;
    conv.weight = weight;
    // Limits are no weights.
    conv.bounds = {at::full({}, -kInf), at::full({}, kInf)};
    g.add("conv", conv, {0});
    g.add("bn", BatchNorm{at::ones({2}), at::zeros({2}), at::zeros({2}), var, {}, 1e-5}, {1});
    g.add("relu",
          BoundedActivation{at::full({}, kInf), Clipping::kRangerClamp, ActivationKind::kRelu},
          {2});
    g.add("flat", Flatten{}, {3});
    g.add("fc", Linear{at::ones({3, 8}), bias, {}}, {4});
    return g;
  }
  std::string refusal(const at::Tensor& images = {}) const {
    try {
      require_fault_free("net.pth", build(), images, "test images");
      return "";
    } catch (const DataError& error) {
      return error.what();
    }
  }
};

TEST(FaultFree, LeavesSoundNetworksAlone) {
  EXPECT_EQ(Net().refusal(), "");
  Net net;
  net.var = at::tensor({0.0f, kInf});  // of channels that are dead, or switched off
  EXPECT_EQ(net.refusal(), "");
  net.var = at::tensor({-1e-6f, 1.0f});  // rounding of a small one
  EXPECT_EQ(net.refusal(), "");
}

TEST(FaultFree, NamesTensorsThatNoTrainingLeaves) {
  Net net;
  net.weight = at::tensor({1.0f, kNaN}).view({2, 1, 1, 1});
  EXPECT_THAT(net.refusal(),
              HasSubstr("net.pth: 1 of 2 values of conv.weight are NaN or Inf with"));
  net.bias = at::full({3}, -kInf);
  EXPECT_THAT(net.refusal(), HasSubstr("(and some of one more tensor)"));
  net.var = at::tensor({-1.0f, -1.0f});
  EXPECT_THAT(net.refusal(), HasSubstr("(and some of 2 more tensors)"));
  Net other;
  other.var = at::tensor({1.0f, -0.5f});
  EXPECT_THAT(other.refusal(), HasSubstr("1 of 2 values of bn.running_var are NaN or negative"));
}

TEST(FaultFree, NamesTheFirstImageAndLayer) {
  Net net;
  net.weight = at::full({2, 1, 1, 1}, 3e38f);
  at::Tensor images = at::zeros({40, 1, 2, 2});
  EXPECT_EQ(net.refusal(images), "");
  images[35] = 2;
  images[37] = -2;
  EXPECT_THAT(
      net.refusal(images),
      HasSubstr("the logits of 1 of 40 test images (first: image 35) are NaN or Inf without "
                "any fault, from layer conv on; check the weights and the normalisation"));
  EXPECT_THAT(net.refusal(), HasSubstr("of 2 random images"));
}

}  // namespace
}  // namespace sentinel
