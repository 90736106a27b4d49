#include "models/storage.hpp"

#include <gmock/gmock.h>

#include "sentinel/core/error.hpp"
#include "unit/transform_support.hpp"

namespace sentinel {
namespace {

using ::testing::HasSubstr;

/// Why a record with these layouts is refused; integers and `named` entries have a scale of 1.
std::string refusal(const LayoutNames& layouts, const std::vector<std::string>& named = {}) {
  Graph graph = test::vgg_like();
  std::map<std::string, at::Tensor> scales;
  for (const std::string& name : named) scales[name] = at::ones({1});
  for (const auto& [entry, layout] : layouts)
    if (layout.rfind("int", 0) == 0) scales[entry + "_scale"] = at::ones({1});
  try {
    set_storage(graph, layouts, scales, "file.pth");
  } catch (const DataError& error) {
    return error.what();
  }
  return "";
}

TEST(RecordOfStorage, ScalesOfNothingAreRefused) {
  const std::string copies = "fp32+repeat:3", none = "the network has no such tensor";
  EXPECT_EQ(refusal({{"features.0.weight", copies}}), "");
  EXPECT_THAT(refusal({{"features.0.weight_scale", copies}}), HasSubstr(none));
  EXPECT_THAT(refusal({{"features.0.weight", copies}, {"features.0.weight_scale", copies}}),
              HasSubstr(none));
  // The file may hold a tensor of that name.
  const std::string scale = "features.0.weight_scale";
  EXPECT_THAT(
      refusal({{"features.0.weight", "int8:tensor"}, {scale, copies}, {scale + "_scale", copies}},
              {scale + "_scale"}),
      HasSubstr(none));
  EXPECT_THAT(refusal({{"", copies}, {"_scale", copies}}), HasSubstr(none));
}

TEST(RecordOfStorage, LayoutsThatAreNotForAClassAreRefused) {
  const std::string only = "only weights may have this code";
  EXPECT_THAT(refusal({{"features.0.bias", "fp32+cep:d3"}}), HasSubstr(only));
  EXPECT_THAT(refusal({{"features.0.bias", "fp16+secded:64,zero"}}), HasSubstr(only));
  const std::string weight = "features.0.weight";
  EXPECT_THAT(refusal({{weight, "int8:tensor"}, {weight + "_scale", "fp32+secded:64"}}),
              HasSubstr(only));
  EXPECT_THAT(refusal({{weight, "int8:tensor"}, {weight + "_scale", "int8:tensor"}}),
              HasSubstr("scales need a format without scales"));
}

TEST(RecordOfStorage, BoundsOfALayerHaveNoScales) {
  Graph graph = test::vgg_like();
  WeightBounds& bounds = *weight_bounds_of(graph[graph.find("features.0")].op);
  bounds = {at::scalar_tensor(-9.F), at::scalar_tensor(9.F)};
  try {
    set_storage(graph, {{"features.0.weight_low", "int8:channel"}},
                {{"features.0.weight_low_scale", at::ones({1})}}, "file.pth");
    FAIL() << "accepted";
  } catch (const DataError& error) {
    EXPECT_THAT(error.what(), HasSubstr("bounds need a format without scales"));
  }
}

}  // namespace
}  // namespace sentinel
