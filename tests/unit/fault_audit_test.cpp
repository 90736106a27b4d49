#include "sentinel/fault/audit.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "fault/rounding_noise.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/fault/sampler.hpp"
#include "sentinel/fault/trial_cost.hpp"
#include "sentinel/graph/profile.hpp"
#include "unit/fault_nets.hpp"
#include "unit/tolerances.hpp"

namespace sentinel {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
const float kNaN = std::nanf("");

TrialLogits logits_of(std::vector<std::vector<float>> images) {
  at::Tensor logits = at::empty(
      {static_cast<std::int64_t>(images.size()), static_cast<std::int64_t>(images[0].size())});
  float* next = logits.data_ptr<float>();
  for (const auto& image : images)
    for (const float value : image) *next++ = value;
  return {logits, predictions_of(logits)};
}

/// Mismatches, near ties and deviation of one image.
void expect(const std::vector<float>& fast, const std::vector<float>& reference,
            std::uint32_t mismatches, std::uint32_t near_ties, double deviation) {
  const Agreement found = compare(logits_of({fast}), logits_of({reference}));
  EXPECT_EQ(found.images, 1u);
  EXPECT_EQ(found.mismatches, mismatches);
  EXPECT_EQ(found.near_ties, near_ties);
  EXPECT_NEAR(found.deviation, deviation, test::kDoubles);
}

TEST(Compare, EachKindOfImageByHand) {
  expect({1, 8, 3}, {1, 8, 3}, 0, 0, 0);
  expect({1, 8, 3.0078125F}, {1, 8, 3}, 0, 0, 0.0078125 / 8);  // just within 1e-3
  expect({1, 8, 3.015625F}, {1, 8, 3}, 1, 0, 0.015625 / 8);    // beyond, though of the same class
  expect({-8, 2, 1}, {-8, 1, 2}, 1, 0, 1.0 / 8);               // another class
  expect({0, 8, 8.0001F}, {0, 8.0001F, 8}, 0, 1, (8.0001F - 8.0) / 8.0001F);
  // A near tie excuses the class, not the logits.
  expect({1, 8, 8.0001F}, {0, 8.0001F, 8}, 1, 0, 1.0 / 8.0001F);
  // The fast path's margin does not count: the reference's is wide.
  expect({0, 8, 8.0001F}, {0, 8.01F, 8}, 1, 0, (8.01F - 8.0) / 8.01F);
}

TEST(Compare, DueIsAClassOfItsOwnThatNoTieExcuses) {
  expect({1, kNaN, 3}, {kInf, 2, 3}, 0, 0, 0);
  expect({1, kNaN, 3}, {1, 2, 3}, 1, 0, 0);
  expect({2, 2, 2}, {kInf, 2, 2}, 1, 0, 0);
  expect({kNaN, 2, 2}, {2, 2, 2}, 1, 0, 0);
}

TEST(Compare, HugeAndZeroLogits) {
  constexpr float kHuge = std::numeric_limits<float>::max();
  expect({kHuge, 0}, {-kHuge, 0}, 1, 0, 2);  // their difference is no float
  expect({0, 0}, {-0.0F, 0}, 0, 0, 0);
  EXPECT_TRUE(std::isinf(compare(logits_of({{0, 1}}), logits_of({{0, 0}})).deviation));
  EXPECT_EQ(compare(logits_of({{0, 1}}), logits_of({{0, 0}})).mismatches, 1u);
}

// A fault upstream makes the input of a duplicated convolution huge, another a copy unlike its
// original by about the threshold of the correction. Which of the two passes hangs on rounding,
// pixel by pixel; the logits must not.
TEST(Compare, RoundingAtTheCorrectionsThresholdIsNoMismatch) {
  const Graph net = test::residual_net();
  TrialEngine engine(test::hardened(net, test::random_images(4).images, false),
                     test::random_images(64), {});
  for (std::uint64_t element = 0; element < 24; ++element)
    for (std::uint8_t bit = 4; bit < 14; ++bit) {
      const Faults faults{{0, element, 30}, {1, element, bit}};
      const Agreement found = compare(engine.logits(faults), engine.logits_reference(faults));
      EXPECT_EQ(found.mismatches, 0u) << element << " bit " << +bit;
    }
}

/// One image; what the reference gives with other roundings.
Agreement with_others(const std::vector<float>& fast, const std::vector<float>& reference,
                      const std::vector<float>& channels_last, const std::vector<float>& doubles) {
  return compare(logits_of({fast}), logits_of({reference}),
                 {{logits_of({channels_last}).logits}, logits_of({doubles}).logits});
}

TEST(Compare, WhatTheReferenceGivesInOtherRoundingsIsANearTie) {
  const std::vector<float> a{1, 8}, b{1, 9}, nan{1, kNaN};
  EXPECT_EQ(with_others(a, b, b, b).mismatches, 1u);
  EXPECT_EQ(with_others(a, b, b, b).near_ties, 0u);
  for (const Agreement& found : {with_others(a, b, a, b), with_others(a, b, b, a),
                                 with_others(nan, b, nan, b), with_others(a, nan, a, nan)}) {
    EXPECT_EQ(found.mismatches, 0u);
    EXPECT_EQ(found.near_ties, 1u);
  }
  // Doubles do not overflow where floats do.
  EXPECT_EQ(with_others(nan, b, b, nan).mismatches, 1u);
  EXPECT_EQ(with_others(a, nan, nan, a).mismatches, 1u);
  EXPECT_EQ(with_others(b, b, a, a).near_ties, 0u);
  // A third result is excused only as far as the reference is at odds with itself.
  EXPECT_EQ(with_others(a, b, {9, 1}, {9, 1}).near_ties, 1u);
  EXPECT_EQ(with_others(a, b, {1, 9.3F}, b).near_ties, 1u);
  EXPECT_EQ(with_others(a, b, {1, 9.2F}, b).mismatches, 1u);
  EXPECT_EQ(with_others(nan, b, {9, 1}, {9, 1}).mismatches, 1u);
}

TEST(Compare, OtherRoundingsOfTheReferenceAreTheSameTrial) {
  const Graph net = test::residual_net();
  EngineOptions options;
  options.block = 4;
  options.group = 6;
  TrialEngine engine(test::hardened(net, test::random_images(4).images, true),
                     test::random_images(20), options);
  for (std::uint64_t trial = 0; trial < 20; ++trial) {
    const Faults faults = draw(ExactFaults{3}, engine.space(), {5, 0, trial});
    const at::Tensor reference = engine.logits_reference(faults, 3).logits;
    const auto others = engine.logits_rounded_otherwise(faults, 3);
    for (const at::Tensor& single : others.singles)
      EXPECT_TRUE(at::allclose(single, reference, test::kFaultyFloats, test::kFaultyFloats, true))
          << trial;
    EXPECT_TRUE(
        at::allclose(others.doubles, reference, test::kFaultyFloats, test::kFaultyFloats, true))
        << trial;
    EXPECT_FALSE(at::equal(others.doubles, engine.golden().logits.narrow(0, 18, 2))) << trial;
  }
  const Audit both = audit(engine, draw(ExactFaults{1}, engine.space(), {5}), 3);
  EXPECT_EQ(both.agreement.images, 2u);
  EXPECT_EQ(both.agreement.mismatches, 0u);
}

TEST(RoundingNoise, MovesASumByAnUlpOfItsProducts) {
  test::Builder b(3, {4, {1, 1}});
  NodeId x = b.graph.add("flatten", Flatten{}, {0});
  x = b.linear("fc", x, 4, 200);
  const at::Tensor images = test::random_tensor(b.rng, {2, 4, 1, 1}, 100);
  const auto& fc = std::get<Linear>(b.graph[x].op);
  const at::Tensor step = at::linear(images.flatten(1).abs(), fc.weight.abs(), fc.bias.abs());
  const at::Tensor plain = logits(b.graph, images);
  const Graph magnitudes = magnitudes_of(b.graph);
  std::vector<at::Tensor> moved;
  for (std::uint64_t draw = 0; draw < 2; ++draw) {
    RoundingNoise noise({&magnitudes, draw});
    moved.push_back(logits(b.graph, images,
                           [&](NodeId node, at::Tensor& output) { noise.apply(node, output); }) -
                    plain);
    // The sum is rounded once more.
    const at::Tensor ulps = moved.back().abs() / step * 0x1p23;
    EXPECT_LE(ulps.max().item<float>(), 1.5F);
    EXPECT_GE(ulps.min().item<float>(), 0.5F);
    EXPECT_NEAR((moved.back() > 0).sum().item<float>(), 200, 40);
  }
  EXPECT_FALSE(at::equal(moved[0], moved[1]));
}

// Behind a weight of 1000 the bound above which all is 0 is one of the values themselves: rounding
// decides on which side that value is.
TEST(Compare, AHugeSumAtABoundIsANearTie) {
  const Batch images = test::random_images(4);
  const float huge = 1000;
  std::uint32_t bits = 0;
  std::memcpy(&bits, &huge, sizeof bits);
  std::uint32_t near_ties = 0, unexcused = 0;
  for (std::uint64_t element = 0; element < 40; ++element) {
    Graph net = test::plain_net();
    at::Tensor word = std::get<Conv>(net[1].op).weight.view(-1)[static_cast<std::int64_t>(element)];
    const float clean = word.item<float>();
    word.fill_(huge);
    Trace trace{images.images};
    run(net, trace);
    word.fill_(clean);
    net[5].op = BoundedActivation{trace[4].max(), Clipping::kRanger};
    TrialEngine engine(std::move(net), images, {});
    const Faults faults{{0, element, 0, Effect::kValue, 1, kAllImages, bits}};
    const Audit both = audit(engine, faults);
    EXPECT_EQ(both.agreement.mismatches, 0u) << element;
    near_ties += both.agreement.near_ties;
    auto others = engine.logits_rounded_otherwise(faults);
    others.singles.erase(others.singles.begin(), others.singles.end() - 1);
    unexcused += compare(both.fast, both.reference, others).mismatches;
  }
  EXPECT_GT(near_ties, 0u);
  EXPECT_GT(unexcused, 0u);  // the noise is needed
}

TEST(Compare, AnErrorOfTheEngineIsNoRounding) {
  const Batch images = test::random_images(4);
  const Graph net = test::plain_net();
  TrialEngine engine(test::hardened(net, images.images), images, {});
  for (std::uint64_t trial = 0; trial < 8; ++trial) {
    const Faults faults = draw(ExactFaults{1}, engine.space(), {6, 0, trial});
    TrialLogits wrong = engine.logits(faults);
    const TrialLogits reference = engine.logits_reference(faults);
    ASSERT_EQ(compare(wrong, reference).mismatches, 0u);
    wrong.logits = wrong.logits * 1.01;
    EXPECT_EQ(compare(wrong, reference, engine.logits_rounded_otherwise(faults)).mismatches, 4u)
        << trial;
  }
}

TEST(Compare, ImagesAddUp) {
  const Agreement found = compare(logits_of({{1, 2}, {2, 1}, {1, kNaN}, {1, 2}}),
                                  logits_of({{1, 2.001F}, {1, 2}, {1, 2}, {1, 2.0005F}}));
  EXPECT_EQ(found.images, 4u);
  EXPECT_EQ(found.mismatches, 2u);
  EXPECT_EQ(found.near_ties, 0u);
  EXPECT_EQ(found.deviation, 0.5);
  EXPECT_THROW(compare(logits_of({{1, 2}}), logits_of({{1, 2}, {1, 2}})), Bug);
}

TEST(AuditDraw, IsAPureFunctionOfItsTrialAndGrowsWithTheRate) {
  int audited = 0;
  for (std::uint64_t trial = 0; trial < 10000; ++trial) {
    EXPECT_FALSE(is_audited(0, 1, 2, trial));
    EXPECT_TRUE(is_audited(1, 1, 2, trial));
    const bool drawn = is_audited(0.03, 1, 2, trial);
    audited += drawn;
    EXPECT_EQ(is_audited(0.03, 1, 2, trial), drawn);
    EXPECT_GE(is_audited(0.05, 1, 2, trial), drawn);
  }
  EXPECT_NEAR(audited, 300, 5 * std::sqrt(300.0));
}

TEST(AuditDraw, OtherPointsAndSeedsDrawOtherTrials) {
  int as_seed = 0, as_point = 0;
  for (std::uint64_t trial = 0; trial < 1000; ++trial) {
    const bool drawn = is_audited(0.5, 1, 0, trial);
    as_seed += drawn == is_audited(0.5, 2, 0, trial);
    as_point += drawn == is_audited(0.5, 1, 1, trial);
  }
  EXPECT_NEAR(as_seed, 500, 5 * std::sqrt(250.0));
  EXPECT_NEAR(as_point, 500, 5 * std::sqrt(250.0));
}

// The first layer's every trial runs all layers; of the last one's only the last.
TEST(TrialCost, CountsTheMacsThatFaultsReach) {
  const Graph net = test::residual_net();
  const FaultSpace space(net);
  const TrialCost cost(net, space);
  const ModelCost macs = model_cost(net);
  const auto share = [&](const std::string& node) {
    return static_cast<double>(macs.layers[static_cast<std::size_t>(net.find(node))].macs) /
           static_cast<double>(macs.macs);
  };
  EXPECT_DOUBLE_EQ(cost.dense(0), 1);
  EXPECT_NEAR(cost.dense(1), 1 - share("conv1"), test::kDoubles);
  // layer1.0.conv1: one of its 8 filters, one of the 8 inputs of the next one, all behind that.
  const double wanted = share("layer1.0.conv1") / 8 + share("layer1.0.conv2") / 8 +
                        share("layer2.0.conv1") + share("layer2.0.conv2") +
                        share("layer2.0.downsample") + share("fc");
  EXPECT_NEAR(cost.one_channel(1), wanted, test::kDoubles);
  EXPECT_DOUBLE_EQ(cost.expected(ChannelFaults{"layer1.0.conv1", 0}), cost.one_channel(1));
}

TEST(TrialCost, GrowsWithTheNumberOfFaults) {
  const Graph net = test::plain_net();
  const FaultSpace space(net);
  const TrialCost cost(net, space);
  const double rare = cost.expected(BinomialFaults{1e-9}), one = cost.expected(ExactFaults{1}),
               many = cost.expected(BinomialFaults{1e-2});
  EXPECT_GT(rare, 0);
  EXPECT_LT(rare, 1e-3);
  EXPECT_LT(one, many);
  EXPECT_LE(many, 1 + 1e-12);
  EXPECT_LE(one, cost.expected(ExactFaults{2}));
}

TEST(TrialCost, DefaultAuditsCostAtMostTwoPercentByMacs) {
  for (const double cost : {0.01, 0.3, 1.0}) {
    const double rate = default_audit_rate(cost);
    EXPECT_GT(rate, 0);
    EXPECT_LE(rate * (1 + cost), 0.02 * cost);
    EXPECT_LE(default_audit_rate(cost, 64) * (1 + 64 * cost), 0.02 * cost);
  }
}

TEST(TrialLogits, OfAGroupAreThoseOfItsImagesWithTheResultThatRunGives) {
  EngineOptions options;
  options.block = 4;
  options.group = 6;
  TrialEngine engine(test::residual_net(), test::random_images(20), options);
  const Faults faults = draw(BinomialFaults{1e-3}, engine.space(), {5});
  const at::Tensor all = engine.logits(faults).logits;
  for (const std::int32_t group : {kNoGroup, 0, 3}) {
    const std::int64_t first = group == kNoGroup ? 0 : group * 6;
    const std::int64_t images = group == kNoGroup ? 20 : std::min<std::int64_t>(6, 20 - first);
    const TrialLogits fast = engine.logits(faults, group);
    const TrialLogits reference = engine.logits_reference(faults, group);
    ASSERT_EQ(fast.logits.size(0), images);
    EXPECT_TRUE(at::allclose(fast.logits, all.narrow(0, first, images), test::kFaultyFloats,
                             test::kFaultyFloats, true));
    EXPECT_EQ(compare(fast, reference).mismatches, 0u);
    EXPECT_EQ(fast.result.path, EnginePath::kFast);
    EXPECT_EQ(fast.result.correct, engine.run(faults, group).result.correct);
    EXPECT_EQ(reference.result.path, EnginePath::kReference);
    EXPECT_EQ(reference.result.masked, engine.run_reference(faults, group).result.masked);
  }
}

}  // namespace
}  // namespace sentinel
