#include "sentinel/graph/run.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "sentinel/core/error.hpp"
#include "sentinel/graph/visit.hpp"
#include "unit/graph_support.hpp"
#include "unit/tolerances.hpp"

namespace sentinel {
namespace {

using test::same_bits;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

class RunTest : public testing::TestWithParam<bool> {
 protected:
  RunTest() { at::manual_seed(7); }
  static Graph graph() { return GetParam() ? test::residual_graph() : test::concat_graph(); }
  static at::Tensor images(const Graph& g) {
    const auto& input = std::get<Input>(g[0].op);
    return test::values({3, input.channels, input.size[0], input.size[1]});
  }
};

TEST_P(RunTest, LeanEqualsRunFromEveryNodeAndLeavesTheTraceAlone) {
  Graph g = graph();
  for (const auto format : {at::MemoryFormat::Contiguous, at::MemoryFormat::ChannelsLast}) {
    g.to(at::kCPU, format);
    Trace trace{images(g).contiguous(format)};
    const at::Tensor expected = run(g, trace, 0);
    Trace before;
    for (const at::Tensor& t : trace) before.push_back(t.clone());
    EXPECT_TRUE(same_bits(logits(g, trace[0]), expected));
    for (NodeId from = 0; from <= g.size(); ++from) {
      EXPECT_TRUE(same_bits(run_lean(g, trace, from), expected)) << from;
    }
    for (std::size_t i = 0; i < trace.size(); ++i) EXPECT_TRUE(same_bits(trace[i], before[i])) << i;
  }
}

TEST_P(RunTest, RestartFromLiveNodesGivesTheSameLogits) {
  const Graph g = graph();
  Trace trace{images(g)};
  const at::Tensor expected = run(g, trace, 0);
  for (NodeId from = 1; from < g.size(); ++from) {
    Trace cut(trace.size());
    for (const NodeId id : live_at(g, from)) {
      cut[static_cast<std::size_t>(id)] = trace[static_cast<std::size_t>(id)];
    }
    EXPECT_TRUE(same_bits(run_lean(g, cut, from), expected)) << from;
    EXPECT_TRUE(same_bits(run(g, cut, from), expected)) << from;
  }
  EXPECT_THROW(run_lean(g, Trace(trace.size()), 3), Bug);
}

TEST_P(RunTest, CloneSharesNothing) {
  Graph g = graph();
  const at::Tensor x = images(g);
  const Graph copy = g.clone();
  const at::Tensor expected = logits(g, x).clone();
  for (NodeId id = 0; id < g.size(); ++id) {
    for_each_tensor(g[id].op, [](const char*, at::Tensor& t) { t.fill_(1); });
  }
  EXPECT_TRUE(same_bits(logits(copy, x), expected));
  EXPECT_FALSE(same_bits(logits(g, x), expected));
}

TEST_P(RunTest, MemoryFormatsAgree) {
  Graph g = graph();
  const at::Tensor x = images(g);
  const at::Tensor expected = logits(g, x);
  g.to(at::kCPU, at::MemoryFormat::ChannelsLast);
  const at::Tensor other = logits(g, x.contiguous(at::MemoryFormat::ChannelsLast));
  EXPECT_TRUE(at::allclose(other, expected, test::kFloats, test::kFloats));
}

TEST_P(RunTest, TrainingGivesGradientsAndUpdatesStatistics) {
  Graph g = graph();
  std::vector<at::Tensor> parameters;
  for (NodeId id = 0; id < g.size(); ++id) {
    for_each_tensor(g[id].op, [&](const char* name, at::Tensor& t) {
      const std::string suffix = name;
      if (suffix != "weight" && suffix != "bias") return;
      parameters.push_back(t.requires_grad_());
    });
  }
  const NodeId bn = g.find(GetParam() ? "bn1" : "bn");
  const auto mean_before = std::get<BatchNorm>(g[bn].op).mean.clone();
  Rng dropout({1, 0, 0, Purpose::kDropout});
  run_training(g, images(g), dropout).square().sum().backward();
  for (const at::Tensor& p : parameters) {
    ASSERT_TRUE(p.grad().defined());
    EXPECT_TRUE(at::isfinite(p.grad()).all().item<bool>());
  }
  EXPECT_FALSE(same_bits(std::get<BatchNorm>(g[bn].op).mean, mean_before));
  EXPECT_EQ(std::get<BatchNorm>(g[bn].op).batches_tracked.item<std::int64_t>(), 1);
}

INSTANTIATE_TEST_SUITE_P(Graphs, RunTest, testing::Bool());

TEST(Training, MovesStatisticsByATenth) {
  Graph g;
  const NodeId x = g.add("x", Input{2, {2, 2}}, {});
  BatchNorm bn = test::batch_norm(2);
  bn.mean.fill_(1);
  g.add("bn", bn, {x});
  Rng rng({1, 0, 0, Purpose::kDropout});
  run_training(g, at::full({4, 2, 2, 2}, 3.0F), rng);
  EXPECT_FLOAT_EQ(bn.mean[0].item<float>(), 0.9F * 1 + 0.1F * 3);
}

TEST(Training, DropoutComesFromTheGivenGenerator) {
  Graph g;
  const NodeId x = g.add("x", Input{1, {64, 64}}, {});
  g.add("drop", Dropout{0.25}, {x});
  const at::Tensor ones = at::ones({1, 1, 64, 64});
  const auto with_seed = [&](std::uint64_t seed) {
    Rng rng({seed, 0, 0, Purpose::kDropout});
    return run_training(g, ones, rng);
  };
  EXPECT_TRUE(same_bits(with_seed(1), with_seed(1)));
  EXPECT_FALSE(same_bits(with_seed(1), with_seed(2)));
  const at::Tensor kept = with_seed(3) > 0;
  EXPECT_NEAR(kept.to(at::kFloat).mean().item<double>(), 0.75, 0.03);  // sd 0.0068
  EXPECT_FLOAT_EQ(with_seed(3).max().item<float>(), static_cast<float>(1 / 0.75));
  EXPECT_TRUE(same_bits(logits(g, ones), ones));
}

TEST(Operators, FlattenKeepsPyTorchsOrderForChannelsLast) {
  const at::Tensor x = at::arange(24, at::kFloat).view({1, 2, 3, 4});
  const at::Tensor y = apply(Flatten{}, {x.contiguous(at::MemoryFormat::ChannelsLast)});
  EXPECT_TRUE(same_bits(y, at::arange(24, at::kFloat).view({1, 24})));
}

TEST(Operators, ShuffleTransposesGroups) {
  const at::Tensor x = at::arange(6, at::kFloat).view({1, 6, 1, 1});
  const at::Tensor y = apply(ChannelShuffle{2}, {x}).flatten();
  EXPECT_TRUE(same_bits(y, at::tensor({0.F, 3.F, 1.F, 4.F, 2.F, 5.F})));
}

TEST(Operators, DuplicationChangesNoBitFaultFree) {
  at::manual_seed(3);
  for (const auto& [out, in, stride] :
       {std::array<std::int64_t, 3>{16, 3, 1}, {32, 16, 2}, {64, 64, 1}}) {
    const Conv plain = test::conv(out, in, 3, stride, 1, true);
    for (const Correction correction : {Correction::kRange, Correction::kMin}) {
      const auto twice = test::duplicated(plain, {out - 1, 0, 5}, correction);
      const at::Tensor x = at::relu(test::values({32, in, 16, 16}));
      const at::Tensor expected = apply(plain, {x}), got = apply(twice, {x});
      EXPECT_TRUE(same_bits(got, expected)) << out << ": " << (got != expected).sum().item<int>();
    }
  }
}

TEST(Operators, DuplicatedGroupedConvolutionUsesTheOriginalsInput) {
  at::manual_seed(4);
  for (const std::int64_t groups : {2, 4}) {
    const Conv plain = test::conv(8, 4, 3, 1, groups, true);
    auto twice = test::duplicated(plain, {6, 1});
    twice.conv.weight[6].fill_(1e35);  // fault in an original: its copy wins
    twice.high.fill_(1e3);
    twice.low.fill_(-1e3);
    const at::Tensor x = test::values({2, 4, 5, 5});
    EXPECT_TRUE(
        at::allclose(apply(twice, {x}), apply(plain, {x}), test::kFloats, test::kFewFloats));
  }
}

TEST(BoundedReluTest, CaseByCase) {
  const at::Tensor x = at::tensor({-1.F, -0.F, 0.F, 1.F, 2.F, 2.5F, kInf, -kInf, kNan});
  const auto check = [&](Clipping clipping, float beyond) {
    const BoundedActivation op{at::scalar_tensor(2.0, at::kFloat), clipping};
    const at::Tensor y = apply(op, {x.view({1, 9})}).flatten();
    const float expected[] = {0, 0, 0, 1, 2, beyond, beyond, 0, 0};
    for (int i = 0; i < 9; ++i) EXPECT_EQ(y[i].item<float>(), expected[i]) << i;
  };
  check(Clipping::kRanger, 0);
  check(Clipping::kRangerClamp, 2);
}

TEST(BoundedReluTest, BoundsPerChannel) {
  const BoundedActivation op{at::tensor({1.F, 3.F}), Clipping::kRanger};
  const at::Tensor y = apply(op, {at::full({1, 2, 1, 1}, 2.F)}).flatten();
  EXPECT_EQ(y[0].item<float>(), 0);
  EXPECT_EQ(y[1].item<float>(), 2);
}

/// The rule of merging for one pair, in plain words.
float expected_merge(float a, float b, Correction correction, float low, float high) {
  const bool fa = std::isfinite(a), fb = std::isfinite(b);
  if (fa && fb && std::abs(a - b) <= 1e-5F * std::max(std::abs(a), std::abs(b))) return a;
  if (!fa || !fb) return fa ? a : fb ? b : 0;
  if (correction == Correction::kMin) return std::min(a, b);
  const bool in_a = low <= a && a <= high, in_b = low <= b && b <= high;
  if (in_a != in_b) return in_a ? a : b;
  return std::abs(a) <= std::abs(b) * 1.00001F ? a : b;
}

float merge(float a, float b, Correction correction, float low = -2, float high = 3) {
  const auto pixel = [](float v) { return at::full({1, 1, 1, 1}, v, at::kFloat); };
  const auto end = [](float v) { return at::full({1}, v, at::kFloat); };
  return correct(pixel(a), pixel(b), correction, end(low), end(high)).item<float>();
}

TEST(DecodedTest, WhatIsOutsideTheBoundsOrNotFiniteIsReadAsZero) {
  const at::Tensor weight =
      at::tensor({-2.0F, -1.0F, 0.5F, 3.0F, 3.1F, kInf, -kInf, std::nanf("")}).view({2, 4});
  const WeightBounds layer{at::scalar_tensor(-1.0F), at::scalar_tensor(3.0F)};
  EXPECT_TRUE(
      at::equal(decoded(weight, layer),
                at::tensor({0.0F, -1.0F, 0.5F, 3.0F, 0.0F, 0.0F, 0.0F, 0.0F}).view({2, 4})));
  const WeightBounds rows{at::tensor({-2.0F, 3.05F}), at::tensor({0.0F, 4.0F})};
  EXPECT_TRUE(
      at::equal(decoded(weight, rows),
                at::tensor({-2.0F, -1.0F, 0.0F, 0.0F, 3.1F, 0.0F, 0.0F, 0.0F}).view({2, 4})));
  EXPECT_TRUE(decoded(weight, {}).is_same(weight));
}

TEST(DecodedTest, IsWhatEveryOperatorWithAWeightReads) {
  Graph bounded = test::residual_graph();
  for (NodeId id = 0; id < bounded.size(); ++id) {
    if (WeightBounds* bounds = weight_bounds_of(bounded[id].op))
      *bounds = {at::scalar_tensor(-0.3F), at::scalar_tensor(0.25F)};  // many weights are outside
  }
  Graph plain = bounded.clone();
  int cut = 0;
  for (NodeId id = 0; id < plain.size(); ++id) {
    WeightBounds* bounds = weight_bounds_of(plain[id].op);
    if (!bounds) continue;
    Conv* conv = as_conv(plain[id].op);
    at::Tensor& weight = conv ? conv->weight : std::get<Linear>(plain[id].op).weight;
    const at::Tensor read = decoded(weight, *bounds);
    cut += !at::equal(read, weight);
    weight = read;
    *bounds = {};
  }
  EXPECT_EQ(cut, 6);
  const at::Tensor x = test::values({2, 3, 8, 8});
  EXPECT_TRUE(same_bits(logits(bounded, x), logits(plain, x)));
}

TEST(CorrectTest, RangeCaseByCase) {
  const auto range = [](float a, float b) { return merge(a, b, Correction::kRange); };
  EXPECT_EQ(range(1, 1), 1);
  EXPECT_EQ(range(1, 1.000001F), 1);
  EXPECT_EQ(range(5, 5), 5);  // equal copies pass even outside the interval
  EXPECT_EQ(range(1, 2), 1);  // both inside: smaller magnitude
  EXPECT_EQ(range(2, -1), -1);
  EXPECT_EQ(range(1, -1), 1);                  // a tie keeps the original
  EXPECT_EQ(range(1.000001F, -1), 1.000001F);  // so does one that rounding decides
  EXPECT_EQ(range(-1, 0.999999F), -1);
  EXPECT_EQ(range(4, 2), 2);  // the only one inside
  EXPECT_EQ(range(2, 4), 2);
  EXPECT_EQ(range(4, -3.5F), -3.5F);  // none inside: smaller magnitude
  EXPECT_EQ(range(4, 4.1F), 4);
  EXPECT_EQ(range(kNan, 2), 2);
  EXPECT_EQ(range(2, kNan), 2);
  EXPECT_EQ(range(kInf, 2), 2);  // |Inf - 2| <= 1e-5 Inf must not count as equal
  EXPECT_EQ(range(2, -kInf), 2);
  EXPECT_EQ(range(kInf, kInf), 0);
  EXPECT_EQ(range(kInf, -kInf), 0);
  EXPECT_EQ(range(kNan, kNan), 0);
  EXPECT_EQ(range(kNan, kInf), 0);
  EXPECT_EQ(range(kNan, 9), 9);
  EXPECT_EQ(range(9, -kInf), 9);
  EXPECT_EQ(merge(kInf, 2, Correction::kRange, -kInf, kInf), 2);  // before calibration
}

TEST(CorrectTest, MinCaseByCase) {
  const auto least = [](float a, float b) { return merge(a, b, Correction::kMin); };
  EXPECT_EQ(least(1, 2), 1);
  EXPECT_EQ(least(2, 1), 1);
  EXPECT_EQ(least(-5, 1), -5);
  EXPECT_EQ(least(kNan, 2), 2);
  EXPECT_EQ(least(2, kNan), 2);
  EXPECT_EQ(least(-kInf, 2), 2);
  EXPECT_EQ(least(2, kInf), 2);
  EXPECT_EQ(least(kInf, -kInf), 0);
  EXPECT_EQ(least(kNan, kNan), 0);
  EXPECT_EQ(least(3e38F, -3e38F), -3e38F);  // the difference overflows
}

TEST(CorrectTest, EqualsAScalarLoopOnRandomWords) {
  Rng rng({11, 0, 0, Purpose::kFaults});
  const std::int64_t n = 20000;
  at::Tensor a = at::empty({n, 2, 1, 1}), b = at::empty({n, 2, 1, 1});
  float *pa = a.data_ptr<float>(), *pb = b.data_ptr<float>();
  const auto word = [&] {
    const std::uint32_t bits = rng.bits32();
    float f;
    std::memcpy(&f, &bits, 4);
    return f;
  };
  for (std::int64_t i = 0; i < 2 * n; ++i) {
    pa[i] = i % 3 == 0 ? word() : static_cast<float>(rng.normal());
    const auto near = static_cast<float>(pa[i] * (1 + 2e-5 * rng.normal()));
    pb[i] = i % 5 == 0 ? word() : i % 5 == 1 ? static_cast<float>(rng.normal()) : near;
  }
  const at::Tensor low = at::tensor({-1.F, 0.F}), high = at::tensor({0.5F, 2.F});
  for (const Correction correction : {Correction::kRange, Correction::kMin}) {
    const at::Tensor merged = correct(a, b, correction, low, high);
    const float* m = merged.data_ptr<float>();
    for (std::int64_t i = 0; i < 2 * n; ++i) {
      const bool odd = i % 2 == 1;
      ASSERT_EQ(m[i], expected_merge(pa[i], pb[i], correction, odd ? 0.F : -1.F, odd ? 2.F : 0.5F))
          << pa[i] << " " << pb[i];
    }
  }
}

/// The copy of an equal row is its original; only non-finite values are still corrected.
TEST(CorrectTest, EqualRowsAgreeHoweverTheKernelRounds) {
  const auto row = [](std::vector<float> v) { return at::tensor(v).view({1, 4, 1, 1}); };
  const at::Tensor a = row({2, kInf, kNan, 2}), b = row({1, 1, kNan, 1});
  const at::Tensor low = at::full({4}, -3.F), high = at::full({4}, 3.F);
  const at::Tensor same = at::tensor({1, 1, 1, 0}).to(at::kBool);
  for (const Correction correction : {Correction::kRange, Correction::kMin}) {
    const at::Tensor merged = correct(a, b, correction, low, high, same);
    EXPECT_TRUE(same_bits(merged, row({2, 0, 0, 1})));
  }
}

/// The interval here has no result inside.
TEST(Operators, EqualRowsPassTheIntervalAndUnequalOnesDoNot) {
  at::manual_seed(5);
  const Conv plain = test::conv(6, 3, 3, 1, 1, true);
  auto twice = test::duplicated(plain, {4, 1});
  twice.low.fill_(1e8F);
  twice.high.fill_(1e9F);
  const at::Tensor x = test::values({2, 3, 5, 5});
  EXPECT_TRUE(same_bits(apply(twice, {x}), apply(plain, {x})));
  twice.conv.bias[7] += 1;  // the copy of channel 1
  const at::Tensor got = apply(twice, {x});
  EXPECT_TRUE(same_bits(got.select(1, 4), apply(plain, {x}).select(1, 4)));
  const at::Tensor a = apply(plain, {x}).select(1, 1), b = a + 1;
  EXPECT_TRUE(at::allclose(got.select(1, 1), at::where(a.abs() <= b.abs(), a, b), test::kFewFloats,
                           test::kFewFloats));
}

TEST(GraphTest, AddRejectsWhatIsNotAGraph) {
  Graph g;
  EXPECT_THROW(g.add("relu", Activation{}, {}), Bug);
  g.add("x", Input{}, {});
  EXPECT_THROW(g.add("y", Input{}, {}), Bug);
  EXPECT_THROW(g.add("x", Activation{}, {0}), Bug);
  EXPECT_THROW(g.add("relu", Activation{}, {1}), Bug);
  EXPECT_THROW(g.find("relu"), Bug);
  EXPECT_EQ(g.add("relu", Activation{}, {0}), 1);
  EXPECT_EQ(g.find("relu"), 1);
}

TEST(Graph, ReadersOfARemovedNodeReadItsInput) {
  Graph graph = test::residual_graph();
  const std::int64_t before = graph.size();
  graph.remove(graph.find("bn1"));
  EXPECT_EQ(graph.size(), before - 1);
  EXPECT_EQ(graph[graph.find("relu")].inputs, std::vector{graph.find("conv1")});
  const std::vector<NodeId> both{graph.find("a.bn2"), graph.find("relu")};
  EXPECT_EQ(graph[graph.find("a.add")].inputs, both);
  EXPECT_THROW(graph.remove(graph.find("a.add")), Bug);
  EXPECT_THROW(graph.remove(0), Bug);
}

}  // namespace
}  // namespace sentinel
