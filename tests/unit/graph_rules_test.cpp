#include "sentinel/graph/rules.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "sentinel/graph/fused.hpp"
#include "sentinel/graph/kernels.hpp"
#include "sentinel/graph/run.hpp"
#include "unit/graph_support.hpp"
#include "unit/rule_edges.hpp"

namespace sentinel {
namespace {

using test::bits_of;
using test::edge_bounds;
using test::edge_values;

constexpr ActivationKind kKinds[] = {ActivationKind::kRelu,      ActivationKind::kRelu6,
                                     ActivationKind::kSilu,      ActivationKind::kSigmoid,
                                     ActivationKind::kHardswish, ActivationKind::kHardsigmoid};

/// Every value [N, C, 1, W] in every channel, each with a bound of its own.
at::Tensor in_every_channel(const std::vector<float>& values, std::size_t channels) {
  const auto width = static_cast<std::int64_t>(values.size());
  return at::tensor(values)
      .view({1, 1, 1, width})
      .repeat({2, static_cast<std::int64_t>(channels), 1, 1});
}

/// One for each of the values [N, C, H, W].
at::Tensor spread(const at::Tensor& bound, const at::Tensor& values) {
  const at::Tensor own = bound.dim() == 1 ? bound.view({-1, 1, 1}) : bound;
  return own.expand(values.sizes()).contiguous();
}

void expect_rule(const at::Tensor& given, const at::Tensor& function, const BoundedActivation& op,
                 const char* what) {
  const at::Tensor values = function.contiguous(), results = given.contiguous();
  const at::Tensor bounds = spread(op.bound, values);
  const at::Tensor lows = spread(op.low.defined() ? op.low : at::full({}, rules::kNoLow), values);
  for (std::int64_t i = 0; i < values.numel(); ++i) {
    const float value = values.data_ptr<float>()[i], bound = bounds.data_ptr<float>()[i],
                low = lows.data_ptr<float>()[i];
    const float acting = rules::acting_bound(bound, op.clipping, op.kind);
    ASSERT_EQ(bits_of(results.data_ptr<float>()[i]),
              bits_of(rules::restrict(value, low, acting, op.clipping, op.kind)))
        << what << " " << activation_name(op.kind) << " " << value << " in " << low << " ... "
        << bound;
  }
}

/// Bounds of a layer, of channels, and of neurons [C, 1, W]: every one beside every value, and for
/// functions every lower one beside every upper one.
std::vector<BoundedActivation> edge_activations(Clipping clipping, ActivationKind kind,
                                                std::int64_t width) {
  std::vector<at::Tensor> bounds, rows;
  for (const float bound : edge_bounds()) bounds.push_back(at::scalar_tensor(bound));
  const std::vector<at::Tensor> of_layers = bounds;
  const at::Tensor channels = at::tensor(edge_bounds());
  for (std::int64_t w = 0; w < width; ++w) rows.push_back(channels.roll(w));
  bounds.push_back(channels);
  bounds.push_back(at::stack(rows, 1).unsqueeze(1));
  std::vector<BoundedActivation> all;
  for (const at::Tensor& bound : bounds) {
    all.push_back({bound, clipping, kind});
    if (kind == ActivationKind::kRelu) continue;
    for (std::size_t k = 0; k < of_layers.size(); ++k)
      all.push_back(
          {bound, clipping, kind,
           bound.dim() == 0 ? of_layers[k] : bound.roll(static_cast<std::int64_t>(k), 0)});
  }
  return all;
}

TEST(Rules, BoundedActivationsOnEveryPath) {
  const auto channels = edge_bounds().size();
  const std::vector<float> given = edge_values(1.0F);
  for (const auto format : {at::MemoryFormat::Contiguous, at::MemoryFormat::ChannelsLast})
    for (const ActivationKind kind : kKinds)
      for (const auto& [clipping, name] : rules::kClippings) {
        if (!rules::can_restrict(clipping, kind)) continue;
        const auto width = static_cast<std::int64_t>(given.size());
        for (const BoundedActivation& op : edge_activations(clipping, kind, width)) {
          const at::Tensor x = in_every_channel(given, channels).contiguous(format);
          const bool relu = kind == ActivationKind::kRelu;
          const at::Tensor theirs = relu ? x : apply(Activation{kind}, {x});
          expect_rule(apply(op, {x}), theirs, op, "run");
          const at::Tensor ours = relu ? x : kernels::activate(Activation{kind}, x);
          Graph graph;
          const NodeId in = graph.add("x", Input{static_cast<std::int64_t>(channels)}, {});
          graph.add("bounded", op, {in});
          const FusedNet fused(graph);
          expect_rule(fused.compute(1, {x.clone()}), ours, op, "fused");
          if (!relu) expect_rule(kernels::activate(op, x), ours, op, "kernel");
        }
      }
}

TEST(Rules, WeightsAsRead) {
  const std::vector<float> values = edge_values(1.0F);
  for (const float low : edge_bounds())
    for (const float high : edge_bounds()) {
      const at::Tensor read =
          decoded(at::tensor(values), {at::scalar_tensor(low), at::scalar_tensor(high)});
      for (std::size_t i = 0; i < values.size(); ++i)
        ASSERT_EQ(bits_of(read.data_ptr<float>()[i]),
                  bits_of(rules::read_weight(values[i], low, high)))
            << values[i] << " in [" << low << ", " << high << "]";
    }
}

TEST(Rules, ResultsOfDuplicatedChannels) {
  const std::vector<float> values = edge_values(1.0F);
  const auto n = static_cast<std::int64_t>(values.size());
  const at::Tensor a = at::tensor(values).view({n, 1, 1, 1}).repeat({n, 1, 1, 1}).contiguous();
  const at::Tensor b = at::tensor(values).repeat_interleave(n).view({n * n, 1, 1, 1}).contiguous();
  for (const Correction correction : {Correction::kRange, Correction::kMin})
    for (const float low : edge_bounds())
      for (const float high : edge_bounds()) {
        const at::Tensor merged = correct(a, b, correction, at::tensor({low}), at::tensor({high}));
        for (std::int64_t i = 0; i < n * n; ++i) {
          const float first = a.data_ptr<float>()[i], second = b.data_ptr<float>()[i];
          ASSERT_EQ(bits_of(merged.data_ptr<float>()[i]),
                    bits_of(rules::merge(first, second, correction, low, high)))
              << first << " and " << second << " in [" << low << ", " << high << "]";
        }
      }
}

/// The rules themselves, by hand.
TEST(Rules, BoundsThatAFaultHit) {
  constexpr float kInf = std::numeric_limits<float>::infinity(), kNaN = std::nanf("");
  const auto relu = [](float value, float bound, Clipping clipping) {
    const float acting = rules::acting_bound(bound, clipping, ActivationKind::kRelu);
    return rules::restrict(value, rules::kNoLow, acting, clipping, ActivationKind::kRelu);
  };
  for (const auto& [clipping, name] : rules::kClippings) {
    for (const float bound : {kNaN, -1.0F, -0.0F, -kInf}) {
      EXPECT_EQ(relu(2, bound, clipping), relu(2, 0, clipping));
      EXPECT_EQ(relu(6, bound, clipping), 0);
    }
    EXPECT_EQ(relu(kNaN, 1, clipping), 0);
    EXPECT_EQ(relu(-kInf, kInf, clipping), 0);
    for (const float value : {1e38F, std::numeric_limits<float>::max()})
      EXPECT_EQ(relu(value, kInf, clipping), value);
    EXPECT_EQ(relu(1, 1, clipping), clipping == Clipping::kSmooth ? 0.5F : 1);
  }
  EXPECT_EQ(relu(2, 0, Clipping::kRanger), 0);
  EXPECT_EQ(relu(2, 0, Clipping::kRangerClamp), 0);
  EXPECT_FLOAT_EQ(relu(0.05F, 0, Clipping::kSmooth), 0.05F / (1 + std::exp(1.0F)));
  EXPECT_EQ(relu(kInf, kInf, Clipping::kSmooth), 0);
  EXPECT_EQ(relu(kInf, kInf, Clipping::kRanger), 0);
  EXPECT_EQ(relu(kInf, kInf, Clipping::kRangerClamp), kInf);
  EXPECT_EQ(relu(kInf, 2, Clipping::kRangerClamp), 2);
  EXPECT_EQ(relu(3, 2, Clipping::kRanger), 0);
}

/// Other functions are restricted on both sides. NaN anywhere is 0.
TEST(Rules, LowBounds) {
  constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
  const auto silu = [](float value, float low, float high, Clipping clipping) {
    return rules::restrict(value, low, high, clipping, ActivationKind::kSilu);
  };
  constexpr Clipping kZero = Clipping::kRanger, kClamp = Clipping::kRangerClamp;
  EXPECT_EQ(silu(-0.2F, -0.2F, 3, kZero), -0.2F);
  EXPECT_EQ(silu(-0.25F, -0.2F, 3, kZero), 0);
  EXPECT_EQ(silu(-0.25F, -0.2F, 3, kClamp), -0.2F);
  EXPECT_EQ(silu(4, -0.2F, 3, kClamp), 3);
  EXPECT_EQ(silu(1, 2, 3, kZero), 0);
  EXPECT_EQ(silu(1, 2, 3, kClamp), 2);
  EXPECT_EQ(silu(5, 4, 3, kClamp), 3);  // a fault put one above the other
  for (const Clipping clipping : {kZero, kClamp}) {
    EXPECT_EQ(silu(-9, kNaN, 3, clipping), 0);
    EXPECT_EQ(silu(-9, -0.2F, kNaN, clipping), 0);
    EXPECT_EQ(silu(kNaN, -0.2F, 3, clipping), 0);
  }
}

/// From 5 above its bound on 0, far below it the value itself.
TEST(Rules, SmoothFallsOffAtItsBound) {
  const auto smooth = [](float value) { return rules::smooth(value, 2); };
  EXPECT_EQ(smooth(2), 1);
  EXPECT_EQ(smooth(0.999F), 0.999F);
  EXPECT_GT(smooth(7), 0);
  EXPECT_EQ(smooth(std::nextafter(7.0F, 8.0F)), 0);
  EXPECT_EQ(smooth(-1), 0);
  EXPECT_FLOAT_EQ(smooth(2.1F), 2.1F / (1 + std::exp(20 * (2.1F - 2))));
  // Where its shortcut begins there is no step.
  EXPECT_EQ(smooth(1), 1);
  EXPECT_EQ(smooth(std::nextafter(1.0F, 0.0F)), std::nextafter(1.0F, 0.0F));
}

TEST(Rules, BoundsOfNeuronsAreForMapsOfOneSize) {
  for (const ActivationKind kind : {ActivationKind::kRelu, ActivationKind::kSilu}) {
    const BoundedActivation op{at::ones({3, 1, 1}), Clipping::kRanger, kind};
    Graph graph;
    graph.add("x", Input{3}, {});
    graph.add("bounded", op, {0});
    EXPECT_NO_THROW(apply(op, {at::ones({2, 3, 1, 1})}));
    EXPECT_THROW(apply(op, {at::ones({2, 3, 2, 1})}), UserError);
    EXPECT_THROW(FusedNet(graph).compute(1, {at::ones({2, 3, 2, 1})}), UserError);
  }
}

/// Gradients of training against differences of the rule.
TEST(Rules, TheSlopesOfSmooth) {
  const float step = 1e-3F;
  const at::Tensor x = at::arange(-0.45, 3.5, 0.1, at::kFloat).unsqueeze(0);
  for (const float bound : {0.5F, 1.0F, 2.5F}) {
    const BoundedActivation op{at::scalar_tensor(bound).requires_grad_(), Clipping::kSmooth};
    for (std::int64_t i = 0; i < x.numel(); ++i) {
      const at::Tensor value = x.narrow(1, i, 1).clone().requires_grad_();
      op.bound.mutable_grad() = at::Tensor();
      apply(op, {value}).sum().backward();
      const auto at = [&](double v, double b) {
        return v <= 0 ? 0.0 : v / (1 + std::exp(20 * (v - b)));
      };
      const double v = value.item<float>(), b = bound;
      EXPECT_NEAR(op.bound.grad().item<float>(), (at(v, b + step) - at(v, b - step)) / (2 * step),
                  1e-4 * 20 * std::abs(v))
          << v << " bound " << b;
      EXPECT_NEAR(value.grad().item<float>(), (at(v + step, b) - at(v - step, b)) / (2 * step),
                  1e-4 * 20 * std::abs(v))
          << v << " bound " << b;
    }
  }
  // None of them is NaN.
  const at::Tensor edges = at::tensor(edge_values(1.0F)).unsqueeze(0).requires_grad_();
  for (const float bound : edge_bounds()) {
    const at::Tensor own = at::scalar_tensor(bound).requires_grad_();
    const at::Tensor y = apply(BoundedActivation{own, Clipping::kSmooth}, {edges});
    EXPECT_TRUE(
        at::equal(y, apply(BoundedActivation{own.detach(), Clipping::kSmooth}, {edges.detach()})));
    y.sum().backward();
    EXPECT_TRUE(at::isfinite(own.grad()).all().item<bool>()) << bound;
    EXPECT_TRUE(at::isfinite(edges.grad()).all().item<bool>()) << bound;
  }
}

}  // namespace
}  // namespace sentinel
