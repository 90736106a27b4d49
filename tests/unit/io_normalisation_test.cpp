#include "sentinel/io/normalisation.hpp"

#include <ATen/ATen.h>

#include <limits>

#include "io_support.hpp"
#include "sentinel/io/dataset.hpp"

namespace sentinel {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

using Words = std::vector<std::string>;

const Normalisation kOther{{0.1, 0.2, 0.3}, {0.4, 0.5, 0.6}};

std::string refusal(const Words& mean, const Words& std) {
  try {
    chosen({mean, std}, kOther);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(NormalisationTest, WhatIsNotChosenStays) {
  EXPECT_EQ(chosen({}, kOther), kOther);
  const Normalisation mean = chosen({{"0.5", "0.25", " 1e-1"}, {}}, kOther);
  EXPECT_THAT(mean.mean, ElementsAre(0.5, 0.25, 0.1));
  EXPECT_EQ(mean.std, kOther.std);
  const Normalisation std = chosen({{}, {"0.5", "0.25", "2"}}, kOther);
  EXPECT_EQ(std.mean, kOther.mean);
  EXPECT_THAT(std.std, ElementsAre(0.5, 0.25, 2));
}

TEST(NormalisationTest, ANameGivesBothUnlessTheStdIsGiven) {
  EXPECT_EQ(chosen({{"none"}, {}}, kOther), Normalisation());
  EXPECT_EQ(chosen({{"imagenet"}, {}}, kOther), dataset_info("imagenet").normalisation());
  const Normalisation cifar = chosen({{"cifar10-2023"}, {}}, kOther);
  EXPECT_EQ(cifar.mean, dataset_info("cifar10").mean);
  EXPECT_THAT(cifar.std, ElementsAre(0.2023, 0.1994, 0.2010));
  EXPECT_EQ(chosen({{"cifar10"}, {"cifar10-2023"}}, kOther), cifar);
  EXPECT_THAT(chosen({{"none"}, {"0.5", "0.5", "0.5"}}, kOther).std, ElementsAre(0.5, 0.5, 0.5));
}

TEST(NormalisationTest, WhatCannotBeIsRefused) {
  EXPECT_THAT(refusal({"cifar11"}, {}), HasSubstr("mean cifar11 is unknown; choose "
                                                  "cifar10, cifar100, imagenet, "));
  EXPECT_THAT(
      refusal({"0.5"}, {}),
      HasSubstr("mean wants 3 numbers, one for each channel of the images, or a name; it has 1"));
  EXPECT_THAT(
      refusal({}, {"1", "1", "1", "1"}),
      HasSubstr("std wants 3 numbers, one for each channel of the images, or a name; it has 4"));
  EXPECT_THAT(refusal({"0.5", "x", "0.5"}, {}), HasSubstr("x is no number"));
  EXPECT_THAT(refusal({"123.675", "116.28", "103.53"}, {}), HasSubstr("it is of pixels / 255"));
  EXPECT_THAT(refusal({"nan", "0", "0"}, {}), HasSubstr("is not from 0 to 1"));
  for (const char* std : {"0", "-1", "inf", "nan", "1e-60", "1e60"})
    EXPECT_THAT(refusal({}, {"1", std, "1"}), HasSubstr("is not a finite number above 0")) << std;
}

TEST(NormalisationTest, Words) {
  EXPECT_EQ(in_words(kOther), "mean 0.1, 0.2, 0.3, std 0.4, 0.5, 0.6");
  EXPECT_EQ(in_words({}), "mean 0, 0, 0, std 1, 1, 1 (none)");
  EXPECT_THAT(in_words(dataset_info("cifar10").normalisation()),
              HasSubstr("std 0.24703233, 0.24348505, 0.26158768 (cifar10)"));
}

TEST(NormalisationTest, ANetworksOwnConstantsReplaceTheDataSets) {
  const Dataset data = synthetic_dataset(Split::kTest, 4, 3);
  const Batch usual = data.batch(0, 4, {}), own = data.batch(0, 4, Normalisation());
  EXPECT_FALSE(at::equal(usual.images, own.images));
  EXPECT_TRUE(at::equal(usual.images, data.batch(0, 4, data.info().normalisation()).images));
  // In [0, 1], whole 255ths.
  const at::Tensor bytes = own.images * 255;
  EXPECT_TRUE(at::allclose(bytes, at::round(bytes), 0, 1e-4));  // 255 x two f32 roundings
  EXPECT_EQ(static_cast<int>(std::lround(bytes.flatten()[5].item<float>())), data.pixels()[5]);
  EXPECT_TRUE(at::equal(own.images.narrow(0, 2, 1), data.batch({2}, Normalisation()).images));
}

}  // namespace
}  // namespace sentinel
