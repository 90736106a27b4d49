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

void expect_rule(const at::Tensor& given, const at::Tensor& function, const BoundedActivation& op,
                 const char* what) {
  const bool relu = op.kind == ActivationKind::kRelu;
  const at::Tensor values = function.contiguous(), results = given.contiguous();
  const std::int64_t width = values.size(3), channels = values.size(1);
  for (std::int64_t i = 0; i < values.numel(); ++i) {
    const float value = values.data_ptr<float>()[i];
    const float bound = op.bound.data_ptr<float>()[op.bound.dim() == 0 ? 0 : i / width % channels];
    const float acting = rules::acting_bound(bound, op.clipping, op.kind);
    ASSERT_EQ(bits_of(results.data_ptr<float>()[i]),
              bits_of(rules::restrict(value, acting, op.clipping, op.kind)))
        << what << (relu ? " relu " : " function ") << value << " bound " << bound;
  }
}

TEST(Rules, BoundedActivationsOnEveryPath) {
  const std::vector<float> bounds = edge_bounds();
  for (const auto format : {at::MemoryFormat::Contiguous, at::MemoryFormat::ChannelsLast})
    for (const ActivationKind kind : kKinds)
      for (const auto& [clipping, name] : rules::kClippings)
        for (std::size_t layer = 0; layer <= bounds.size(); ++layer) {
          const bool rows = layer == bounds.size();
          BoundedActivation op{rows ? at::tensor(bounds) : at::scalar_tensor(bounds[layer]),
                               clipping, kind};
          const at::Tensor x =
              in_every_channel(edge_values(1.0F), bounds.size()).contiguous(format);
          const bool relu = kind == ActivationKind::kRelu;
          const at::Tensor theirs = relu ? x : apply(Activation{kind}, {x});
          expect_rule(apply(op, {x}), theirs, op, "run");
          const at::Tensor ours = relu ? x : kernels::activate(Activation{kind}, x);
          Graph graph;
          const NodeId in = graph.add("x", Input{static_cast<std::int64_t>(bounds.size())}, {});
          graph.add("bounded", op, {in});
          const FusedNet fused(graph);
          expect_rule(fused.compute(1, {x.clone()}), ours, op, "fused");
          if (!relu) expect_rule(kernels::activate(op, x), ours, op, "kernel");
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
    return rules::restrict(value, acting, clipping, ActivationKind::kRelu);
  };
  for (const auto& [clipping, name] : rules::kClippings) {
    for (const float bound : {kNaN, -1.0F, 0.0F, -0.0F, -kInf})
      EXPECT_EQ(relu(2, bound, clipping), 0);
    EXPECT_EQ(relu(kNaN, 1, clipping), 0);
    EXPECT_EQ(relu(1e38F, kInf, clipping), 1e38F);
    EXPECT_EQ(relu(1, 1, clipping), 1);
  }
  EXPECT_EQ(relu(kInf, kInf, Clipping::kRanger), 0);
  EXPECT_EQ(relu(kInf, kInf, Clipping::kRangerClamp), kInf);
  EXPECT_EQ(relu(kInf, 2, Clipping::kRangerClamp), 2);
  EXPECT_EQ(relu(3, 2, Clipping::kRanger), 0);
}

}  // namespace
}  // namespace sentinel
