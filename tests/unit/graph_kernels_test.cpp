#include "sentinel/graph/kernels.hpp"
#include "sentinel/graph/rules.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "sentinel/graph/run.hpp"
#include "unit/graph_support.hpp"
#include "unit/tolerances.hpp"

namespace sentinel {
namespace {

using kernels::Epilogue;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr auto kLast = at::MemoryFormat::ChannelsLast;

/// Equal up to rounding; Inf and NaN at the same places.
void expect_close(const at::Tensor& got, const at::Tensor& wanted) {
  ASSERT_EQ(got.sizes(), wanted.sizes());
  EXPECT_TRUE(at::equal(at::isnan(got), at::isnan(wanted)));
  EXPECT_TRUE(at::allclose(got, wanted, test::kFloats, test::kFloats, /*equal_nan=*/true))
      << (got - wanted).abs().max();
}

// ---- finish ----

class Finish : public testing::TestWithParam<std::tuple<bool, bool, bool, int>> {};

/// 0: no activation, 1: a ReLU, from 2 on bounded ones.
Clipping clipping_of(int activation) {
  return rules::kClippings.at(static_cast<std::size_t>(activation - 2)).first;
}

at::Tensor finished(const at::Tensor& x, const at::Tensor& scale, const at::Tensor& shift,
                    const at::Tensor& other, const at::Tensor& bound, int activation) {
  at::Tensor y = x;
  if (scale.defined()) y = y * scale.view({1, -1, 1, 1}) + shift.view({1, -1, 1, 1});
  if (other.defined()) y = y + other;
  if (activation == 1) return at::relu(y);
  if (activation > 1)
    return sentinel::apply(BoundedActivation{bound, clipping_of(activation)}, {y});
  return y;
}

TEST_P(Finish, EqualsTheOperatorsOneByOne) {
  at::manual_seed(1);
  const auto [scaled, adds, neurons, activation] = GetParam();
  for (const std::int64_t channels : {1, 5, 16, 29}) {
    at::Tensor x = test::values({3, channels, 4, 5}).contiguous(kLast) * 2;
    x[0].select(0, 0)[1][1] = kNan;
    x[1].select(0, channels - 1)[2][3] = kInf;
    x[2].select(0, 0)[0][0] = -kInf;
    const at::Tensor scale = scaled ? test::values({channels}) : at::Tensor(),
                     shift = scaled ? test::values({channels}) : at::Tensor(),
                     other =
                         adds ? test::values({3, channels, 4, 5}).contiguous(kLast) : at::Tensor(),
                     bound = (neurons ? at::rand({channels, 4, 5}) : at::rand({channels})) + 0.5;
    Epilogue epilogue;
    if (scaled) epilogue.scale = scale.data_ptr<float>();
    if (scaled) epilogue.shift = shift.data_ptr<float>();
    if (adds) epilogue.other = other.data_ptr<float>();
    epilogue.rectifies = activation > 0;
    if (activation > 1) epilogue.clipping = clipping_of(activation);
    const std::vector<float> bounds = kernels::acting_bounds({bound});
    epilogue.bound = bounds.data();
    epilogue.bound_pixels = neurons ? 20 : 1;
    const at::Tensor wanted = finished(x, scale, shift, other, bound, activation);
    at::Tensor apart = at::empty_like(x), in_place = x.clone();
    kernels::apply_epilogue(x.data_ptr<float>(), apart.data_ptr<float>(), 60, channels, epilogue);
    kernels::apply_epilogue(in_place.data_ptr<float>(), in_place.data_ptr<float>(), 60, channels,
                            epilogue);
    expect_close(apart, wanted);
    EXPECT_TRUE(test::same_bits(apart, in_place));
  }
}

INSTANTIATE_TEST_SUITE_P(All, Finish,
                         testing::Combine(testing::Bool(), testing::Bool(), testing::Bool(),
                                          testing::Range(0, 5)));

// ---- single channels of a convolution ----

struct Shape {
  std::int64_t in, out, kernel, stride, groups, dilation, size;
};

class Channels : public testing::TestWithParam<Shape> {
 protected:
  Channels() { at::manual_seed(2); }
  static Conv conv() {
    const Shape& s = GetParam();
    Conv op = test::conv(s.out, s.in, s.kernel, s.stride, s.groups, true);
    op.weight = op.weight.contiguous(kLast);
    op.dilation = {s.dilation, s.dilation};
    return op;
  }
  static at::Tensor images() {
    const Shape& s = GetParam();
    return test::values({3, s.in, s.size, s.size + 2}).contiguous(kLast);
  }
};

TEST_P(Channels, FiltersEqualTheWholeConvolution) {
  Conv op = conv();
  const at::Tensor x = images();
  op.weight[1][0][0][0] = kInf;  // the border is not multiplied by it
  const at::Tensor all = sentinel::apply(op, {x});
  const std::vector<std::int64_t> channels = {GetParam().out - 1, 1, 0};
  const at::Tensor index = at::tensor(channels);
  const at::Tensor got = kernels::filter_outputs(op, x, op.weight.index_select(0, index), channels);
  expect_close(got, all.index_select(1, index));
  // Neither the company of a filter nor that of an image changes a bit.
  const at::Tensor alone =
      kernels::filter_outputs(op, x.narrow(0, 2, 1), op.weight.narrow(0, 0, 1), {0});
  EXPECT_TRUE(test::same_bits(alone, got.narrow(0, 2, 1).narrow(1, 2, 1)));
}

TEST_P(Channels, ADifferenceOfOneInputChannelIsAdded) {
  const Conv op = conv();
  const at::Tensor x = images(), known = sentinel::apply(op, {x});
  const std::vector<std::int64_t> image = {2, 0, 0}, channels = {0, GetParam().in - 1, 0};
  at::Tensor delta = test::values({3, x.size(2), x.size(3)});
  delta[2].zero_();
  std::vector<bool> changed;
  const at::Tensor got = kernels::add_channel(op, known, image, delta, channels, changed);
  for (std::int64_t k = 0; k < 3; ++k) {
    const auto at = static_cast<std::size_t>(k);
    at::Tensor whole = x.narrow(0, image[at], 1).clone();
    whole[0][channels[at]] += delta[k];
    expect_close(got.narrow(0, k, 1), sentinel::apply(op, {whole}));
  }
  EXPECT_EQ(changed, (std::vector<bool>{true, true, false}));
  EXPECT_TRUE(test::same_bits(got[2], known[0]));
  std::vector<bool> one;
  EXPECT_TRUE(test::same_bits(
      kernels::add_channel(op, known, {0}, delta.narrow(0, 1, 1), {channels[1]}, one)[0], got[1]));
}

INSTANTIATE_TEST_SUITE_P(Shapes, Channels,
                         testing::Values(Shape{3, 16, 3, 1, 1, 1, 9}, Shape{16, 32, 3, 2, 1, 1, 8},
                                         Shape{12, 29, 1, 2, 1, 1, 7}, Shape{64, 40, 3, 1, 1, 2, 8},
                                         Shape{20, 10, 5, 1, 2, 1, 11}, Shape{6, 6, 3, 1, 6, 1, 8},
                                         Shape{6, 12, 3, 2, 6, 1, 5}));

// ---- activations that the pass above does not know ----

constexpr ActivationKind kKinds[] = {ActivationKind::kRelu,      ActivationKind::kRelu6,
                                     ActivationKind::kSilu,      ActivationKind::kSigmoid,
                                     ActivationKind::kHardswish, ActivationKind::kHardsigmoid};

at::Tensor odd_values() {
  at::manual_seed(6);
  at::Tensor x = test::values({3, 5, 7, 3}) * 4;  // no whole number of vectors
  float* first = x.data_ptr<float>();
  const float special[] = {kInf, -kInf, kNan, 0.0F, -0.0F, 1e30F, -1e30F, 1e-40F, 3.0F, -3.0F};
  std::copy(std::begin(special), std::end(special), first);
  return x;
}

TEST(Activate, EqualsLibTorchInAnyLayout) {
  const at::Tensor bounds = at::tensor({0.1F, 1.0F, 2.0F, 0.5F, 3.0F});
  for (const ActivationKind kind : kKinds)
    for (const at::Tensor& x : {odd_values(), odd_values().contiguous(kLast)}) {
      SCOPED_TRACE(activation_name(kind));
      expect_close(kernels::activate(Activation{kind}, x), apply(Activation{kind}, {x}));
      for (const Clipping clipping : {Clipping::kRanger, Clipping::kRangerClamp})
        for (const at::Tensor& bound : {bounds, at::scalar_tensor(0.7F), at::rand({5, 7, 3}) * 3}) {
          const BoundedActivation op{bound, clipping, kind};
          expect_close(kernels::activate(op, x), apply(op, {x}));
          if (kind == ActivationKind::kRelu) continue;
          const BoundedActivation both{bound, clipping, kind, bound * 0.25};
          expect_close(kernels::activate(both, x), apply(both, {x}));
          EXPECT_TRUE(at::isfinite(apply(op, {x})).all().item<bool>());
        }
    }
}

TEST(Activate, TheBitsDoNotDependOnThePlaceInMemory) {
  const at::Tensor x = test::values({4, 5, 7, 3});
  for (const ActivationKind kind : kKinds) {
    const Activation op{kind};
    const at::Tensor all = kernels::activate(op, x);
    for (std::int64_t i = 0; i < x.size(0); ++i)
      EXPECT_TRUE(test::same_bits(kernels::activate(op, x.narrow(0, i, 1).contiguous())[0], all[i]))
          << activation_name(kind);
  }
}

// ---- duplicated channels, linear layers ----

TEST(MergeCopies, EqualsCorrect) {
  at::manual_seed(3);
  for (const Correction correction : {Correction::kRange, Correction::kMin}) {
    DuplicatedConv op = test::duplicated(test::conv(6, 3), {4, 1, 0}, correction);
    if (correction == Correction::kRange)
      op.low = at::full({3}, -0.7F), op.high = at::full({3}, 0.9F);
    at::Tensor x = test::values({2, 6, 5, 5}).contiguous(kLast);
    const at::Tensor index = at::tensor(op.duplicated);
    at::Tensor b = x.index_select(1, index) + test::values({2, 3, 5, 5}) * at::rand({2, 3, 5, 5});
    x[0][4][0][0] = kInf, x[0][4][0][1] = kNan, x[1][1][2][2] = -kInf, x[1][0][1][1] = kNan;
    b[0][0][0][0] = kNan, b[0][0][2][2] = kInf, b[1][2][3][3] = x[1][0][3][3] * 1.000001;
    const at::Tensor a = x.index_select(1, index),
                     same = at::tensor(std::vector<std::int64_t>{0, 1, 0}).to(at::kBool);
    const at::Tensor wanted =
        x.index_copy(1, index, correct(a, b, correction, op.low, op.high, same));
    kernels::merge_copies(
        x, op, b.index_select(1, at::tensor(std::vector<std::int64_t>{0, 2})).contiguous(),
        {0, -1, 1});
    EXPECT_TRUE(test::same_bits(x, wanted));
  }
}

std::vector<const float*> rows_of(const at::Tensor& weight) {
  std::vector<const float*> rows;
  for (std::int64_t row = 0; row < weight.size(0); ++row)
    rows.push_back(weight[row].data_ptr<float>());
  return rows;
}

TEST(LinearKernel, EqualsLinear) {
  at::manual_seed(4);
  for (const std::int64_t inputs : {1, 7, 64, 300}) {
    const at::Tensor x = test::values({5, inputs}), weight = test::values({9, inputs}),
                     bias = test::values({9});
    const std::vector<const float*> rows = rows_of(weight);
    expect_close(kernels::linear(x, rows, bias), at::linear(x, weight, bias));
    expect_close(kernels::linear(x, rows, {}), at::linear(x, weight));
    EXPECT_TRUE(test::same_bits(kernels::linear(x.narrow(0, 3, 1), rows, bias)[0],
                                kernels::linear(x, rows, bias)[3]));
  }
}

}  // namespace
}  // namespace sentinel
