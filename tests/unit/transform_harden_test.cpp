#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "sentinel/core/error.hpp"
#include "sentinel/core/file.hpp"
#include "sentinel/graph/profile.hpp"
#include "sentinel/io/checkpoint_file.hpp"
#include "sentinel/models/model.hpp"
#include "sentinel/transform/harden.hpp"
#include "unit/tolerances.hpp"
#include "unit/transform_support.hpp"

namespace sentinel {
namespace {

using testing::ElementsAre;

DuplicationPlan plan(double ratio, RowLayout selection, Correction correction) {
  return {ratio, selection, correction, GroupScore::kMean};
}

/// XORs one bit of a stored weight.
void flip(at::Tensor& weight, std::int64_t element, int bit) {
  std::uint32_t word;
  float* value = weight.data_ptr<float>() + element;
  std::memcpy(&word, value, sizeof word);
  word ^= 1u << bit;
  std::memcpy(value, &word, sizeof word);
}

const DuplicatedConv& duplicated(const Graph& graph, const std::string& name) {
  return std::get<DuplicatedConv>(graph[graph.find(name)].op);
}

class Duplication : public testing::TestWithParam<Graph (*)()> {};

TEST_P(Duplication, OfEachLayersOwnBestLeavesLogitsBitwise) {
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    SCOPED_TRACE(seed);
    at::manual_seed(seed);
    const Graph graph = GetParam()();
    const auto images = at::randn({5, 3, 8, 8});
    const auto scores = test::random_scores(graph, seed);
    for (const auto correction : {Correction::kRange, Correction::kMin}) {
      const Graph hardened =
          duplicate_channels(graph, scores, plan(0.4, RowLayout::kOwn, correction));
      EXPECT_TRUE(test::same_bits(logits(graph, images), logits(hardened, images)));
      EXPECT_TRUE(hardened.origin.empty());
    }
  }
}

TEST_P(Duplication, ByGroupIsSortedAndTakesTheFirst) {
  at::manual_seed(3);
  const Graph graph = GetParam()();
  const auto images = at::randn({5, 3, 8, 8});
  const auto scores = test::random_scores(graph, 3);
  const Graph hardened =
      duplicate_channels(graph, scores, plan(0.4, RowLayout::kGroup, Correction::kRange));
  const Graph sorted = sort_channels(graph, scores);
  EXPECT_TRUE(test::same_bits(logits(sorted, images), logits(hardened, images)));
  EXPECT_EQ(hardened.origin.size(), sorted.origin.size());
  for (const auto& layer : scores) {
    const auto& op = duplicated(hardened, layer.layer);
    EXPECT_EQ(op.layout, RowLayout::kGroup);
    for (std::size_t k = 0; k < op.duplicated.size(); ++k) {
      EXPECT_EQ(op.duplicated[k], static_cast<std::int64_t>(k));
    }
  }
}

TEST_P(Duplication, StoresCopiesOfTheBestInDescendingOrder) {
  at::manual_seed(4);
  const Graph graph = GetParam()();
  const auto scores = test::random_scores(graph, 4);
  const Graph hardened =
      duplicate_channels(graph, scores, plan(0.5, RowLayout::kOwn, Correction::kRange));
  for (const auto& layer : scores) {
    const auto& op = duplicated(hardened, layer.layer);
    auto best = descending(layer.scores);
    best.resize(best.size() / 2);
    EXPECT_EQ(op.duplicated, best);
    const auto& weight = as_conv(graph[layer.node].op)->weight;
    EXPECT_TRUE(test::same_bits(op.conv.weight.narrow(0, 0, weight.size(0)), weight));
    EXPECT_TRUE(test::same_bits(op.conv.weight.slice(0, weight.size(0)),
                                weight.index_select(0, at::tensor(best))));
  }
}

INSTANTIATE_TEST_SUITE_P(Nets, Duplication, testing::Values(test::plain_residual, test::vgg_like));

TEST(DuplicationCount, IsThatOfPythonsIntOfTheProductAndAtLeastOne) {
  const auto count = [](std::int64_t channels, double ratio) {
    Graph graph;
    const NodeId x = graph.add("x", Input{3, {8, 8}}, {});
    graph.add("conv", test::conv(channels, 3), {x});
    const auto scores = test::random_scores(graph, 1);
    return duplicated(
               duplicate_channels(graph, scores, plan(ratio, RowLayout::kOwn, Correction::kMin)),
               "conv")
        .duplicated.size();
  };
  EXPECT_EQ(count(64, 0.1), 6u);
  EXPECT_EQ(count(100, 0.29), 28u);  // 100 * 0.29 == 28.999999999999996
  EXPECT_EQ(count(10, 0.3), 3u);
  EXPECT_EQ(count(16, 0.01), 1u);
  EXPECT_EQ(count(16, 0.999), 15u);
}

TEST(DuplicationErrors, RatiosOutsideAndHardenedModels) {
  const Graph graph = test::plain_residual();
  const auto scores = test::random_scores(graph, 1);
  for (const double ratio : {1.0, -0.1, 1.5, std::nan("")}) {
    EXPECT_THROW(
        duplicate_channels(graph, scores, plan(ratio, RowLayout::kOwn, Correction::kRange)),
        UserError)
        << ratio;
  }
  const Graph hardened =
      duplicate_channels(graph, scores, plan(0.1, RowLayout::kOwn, Correction::kRange));
  EXPECT_THROW(duplicate_channels(hardened, scores, plan(0.1, RowLayout::kOwn, Correction::kRange)),
               UserError);
  const Graph restricted = restrict_activations(graph, Clipping::kRanger, BoundsPer::kLayer);
  EXPECT_THROW(restrict_activations(restricted, Clipping::kRanger, BoundsPer::kLayer), UserError);
}

TEST(RestrictActivations, ANetworkWithoutAnyIsRefused) {
  Graph graph;
  NodeId x = graph.add("x", Input{3, {8, 8}}, {});
  x = graph.add("conv1", test::conv(6, 3), {x});
  graph.add("flatten", Flatten{}, {x});
  for (const Clipping clipping : {Clipping::kRanger, Clipping::kRangerClamp, Clipping::kSmooth})
    EXPECT_THROW(restrict_activations(graph, clipping, BoundsPer::kLayer), UserError);
}

struct Setting {
  RowLayout selection;
  Correction correction;
  Clipping clipping;
  BoundsPer bounds;
};

std::vector<Setting> all_settings() {
  std::vector<Setting> settings;
  for (const auto selection : {RowLayout::kOwn, RowLayout::kGroup}) {
    for (const auto correction : {Correction::kRange, Correction::kMin}) {
      for (const auto clipping : {Clipping::kRanger, Clipping::kRangerClamp}) {
        for (const auto bounds : {BoundsPer::kLayer, BoundsPer::kChannel, BoundsPer::kNeuron}) {
          settings.push_back({selection, correction, clipping, bounds});
        }
      }
    }
  }
  return settings;
}

HardeningPlan hardening(const Setting& setting) {
  HardeningPlan result;
  result.duplication = plan(0.3, setting.selection, setting.correction);
  result.clipping = setting.clipping;
  result.bounds = setting.bounds;
  return result;
}

class Hardening : public testing::TestWithParam<Graph (*)()> {
 protected:
  Hardening() : images_(test::quadrants(70, 5)) {
    at::manual_seed(5);
    graph_ = GetParam()();
    scores_ = test::random_scores(graph_, 5);
  }
  Graph harden_as(const HardeningPlan& how) {
    return harden(graph_, scores_, how, images_, Comm::local(), at::kCPU);
  }
  at::Tensor all_images() const { return images_.batch(0, images_.size(), {}).images; }
  Dataset images_;
  Graph graph_;
  ChannelScores scores_;
};

TEST_P(Hardening, LeavesTheLogitsOfCalibrationImages) {
  const auto before = logits(graph_, all_images());
  const auto sorted = logits(sort_channels(graph_, scores_), all_images());
  for (const auto& setting : all_settings()) {
    const Graph hardened = harden_as(hardening(setting));
    const auto& same = setting.selection == RowLayout::kGroup ? sorted : before;
    EXPECT_TRUE(test::same_bits(same, logits(hardened, all_images())));
  }
}

TEST_P(Hardening, SetsEveryBoundJustAboveTheLargestActivation) {
  for (const auto per : {BoundsPer::kLayer, BoundsPer::kChannel, BoundsPer::kNeuron}) {
    const Graph hardened =
        harden_as(hardening({RowLayout::kOwn, Correction::kRange, Clipping::kRanger, per}));
    Trace trace{all_images()};
    run(graph_, trace);
    for (NodeId id = 0; id < graph_.size(); ++id) {
      if (!std::holds_alternative<Activation>(graph_[id].op)) continue;
      const auto& bound = std::get<BoundedActivation>(hardened[id].op).bound;
      const auto& output = trace[static_cast<std::size_t>(id)];
      const auto of_neurons = output.amax(0);
      const auto largest = per == BoundsPer::kLayer ? of_neurons.max()
                           : per == BoundsPer::kChannel
                               ? of_neurons.view({output.size(1), -1}).amax(1)
                               : of_neurons;
      EXPECT_EQ(bound.sizes(), largest.sizes());
      // Two f32 roundings.
      EXPECT_TRUE(at::allclose(bound, largest * (1 + 0x1p-10), 1e-6, 0)) << graph_[id].name;
    }
  }
}

TEST_P(Hardening, IntervalsContainTheOutputsWithATenthToSpare) {
  for (const auto selection : {RowLayout::kOwn, RowLayout::kGroup}) {
    const Graph hardened =
        harden_as(hardening({selection, Correction::kRange, Clipping::kRanger, BoundsPer::kLayer}));
    const Graph base =
        selection == RowLayout::kGroup ? sort_channels(graph_, scores_) : graph_.clone();
    Trace trace{all_images()};
    run(base, trace);
    for (const auto& layer : scores_) {
      const auto& op = duplicated(hardened, layer.layer);
      const auto outputs = trace[static_cast<std::size_t>(layer.node)].transpose(0, 1).flatten(1);
      const auto mine = outputs.index_select(0, at::tensor(op.duplicated));
      const auto low = mine.amin(1), high = mine.amax(1);
      EXPECT_TRUE(at::allclose(op.low, low - (high - low) * 0.1, test::kFloats, test::kFewFloats))
          << layer.layer;
      EXPECT_TRUE(at::allclose(op.high, high + (high - low) * 0.1, test::kFloats, test::kFewFloats))
          << layer.layer;
    }
  }
}

TEST_P(Hardening, RepairsAnExponentFlipInARowAndInItsCopy) {
  for (const auto selection : {RowLayout::kOwn, RowLayout::kGroup}) {
    HardeningPlan how =
        hardening({selection, Correction::kRange, Clipping::kRanger, BoundsPer::kLayer});
    how.restricted = false;  // the correction alone must do it
    Graph hardened = harden_as(how);
    const auto golden = logits(hardened, all_images());
    for (const auto& layer : scores_) {
      auto& op = std::get<DuplicatedConv>(hardened[layer.node].op);
      const std::int64_t filter = op.conv.weight.numel() / op.conv.weight.size(0);
      const auto last = static_cast<std::int64_t>(op.duplicated.size()) - 1;
      for (const std::int64_t row : {op.duplicated.back(), op.out_channels() + last}) {
        flip(op.conv.weight, row * filter, 30);
        // The copy's convolution may round otherwise than the original's.
        EXPECT_LE(test::relative_difference(golden, logits(hardened, all_images())), test::kFloats)
            << layer.layer << " row " << row;
        flip(op.conv.weight, row * filter, 30);
      }
      EXPECT_TRUE(test::same_bits(golden, logits(hardened, all_images())));
    }
  }
}

TEST_P(Hardening, UnrestrictedKeepsRelu) {
  HardeningPlan how = hardening(all_settings().front());
  how.restricted = false;
  const Graph hardened = harden_as(how);
  for (NodeId id = 0; id < graph_.size(); ++id) {
    EXPECT_EQ(std::holds_alternative<Activation>(graph_[id].op),
              std::holds_alternative<Activation>(hardened[id].op));
  }
}

/// Bounds of neurons move with their channels, and are set anew for them.
TEST_P(Hardening, BoundsOfNeuronsMoveWithTheirChannels) {
  HardeningPlan how =
      hardening({RowLayout::kOwn, Correction::kRange, Clipping::kRanger, BoundsPer::kNeuron});
  how.duplication.ratio = 0;
  const Graph bounded = harden_as(how);
  const auto scores = test::random_scores(bounded, 6);
  const Graph sorted = sort_channels(bounded, scores), plain = sort_channels(graph_, scores);
  bool moved = false;
  for (NodeId id = 0; id < sorted.size(); ++id) {
    const auto* before = std::get_if<BoundedActivation>(&bounded[id].op);
    if (before)
      moved = moved || !at::equal(before->bound, std::get<BoundedActivation>(sorted[id].op).bound);
  }
  EXPECT_TRUE(moved);
  // On the calibration images bounds that moved along cut nothing.
  EXPECT_TRUE(test::same_bits(logits(sorted, all_images()), logits(plain, all_images())));
  Graph anew = sorted.clone();
  recalibrate(anew, images_, Comm::local(), at::kCPU);
  for (NodeId id = 0; id < sorted.size(); ++id) {
    const auto* own = std::get_if<BoundedActivation>(&sorted[id].op);
    if (!own) continue;
    EXPECT_TRUE(at::allclose(own->bound, std::get<BoundedActivation>(anew[id].op).bound,
                             test::kFloats, test::kFewFloats));
  }
}

INSTANTIATE_TEST_SUITE_P(Nets, Hardening, testing::Values(test::plain_residual, test::vgg_like));

/// The largest activation of a channel is below 0, and so is its bound.
TEST(Bounds, AreAboveTheLargestActivationOfFunctionsThatGoBelowZero) {
  at::manual_seed(8);
  Graph graph;
  NodeId x = graph.add("x", Input{3, {8, 8}}, {});
  Conv conv = test::conv(4, 3, 3, 1, 1, true);
  conv.weight.mul_(0.01);
  conv.bias = at::tensor({-0.5F, 1.0F, -3.0F, 0.2F});
  x = graph.add("conv", conv, {x});
  x = graph.add("silu", Activation{ActivationKind::kSilu}, {x});
  x = graph.add("flatten", Flatten{}, {x});
  graph.add("fc", test::linear(4, 4 * 64), {x});
  const Dataset images = test::quadrants(20, 5);
  const at::Tensor all = images.batch(0, images.size(), {}).images;
  Trace trace{all};
  run(graph, trace);
  for (const Clipping clipping : {Clipping::kRanger, Clipping::kRangerClamp})
    for (const BoundsPer per : {BoundsPer::kLayer, BoundsPer::kChannel, BoundsPer::kNeuron}) {
      Graph bounded = restrict_activations(graph, clipping, per);
      calibrate(bounded, activation_ranges(graph, images, Comm::local(), at::kCPU, per));
      const auto& op = std::get<BoundedActivation>(bounded[2].op);
      EXPECT_TRUE(per != BoundsPer::kChannel || op.bound[0].item<float>() < 0);
      ASSERT_EQ(op.low.sizes(), op.bound.sizes());
      const at::Tensor least = trace[2].amin(0);
      const at::Tensor of_bounds = per == BoundsPer::kLayer     ? least.min()
                                   : per == BoundsPer::kChannel ? least.flatten(1).amin(1)
                                                                : least;
      EXPECT_TRUE(at::allclose(op.low, of_bounds, 0x1p-9, 0));
      EXPECT_TRUE(test::same_bits(logits(graph, all), logits(bounded, all)));
    }
}

TEST(Bounds, SmoothIsForReLUsAlone) {
  Graph graph = test::plain_residual();
  EXPECT_NO_THROW(restrict_activations(graph, Clipping::kSmooth, BoundsPer::kNeuron));
  graph[graph.size() - 4].op = Activation{ActivationKind::kSilu};
  try {
    restrict_activations(graph, Clipping::kSmooth, BoundsPer::kLayer);
    FAIL();
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("silu"), std::string::npos) << error.what();
  }
}

TEST(Bounds, OfNeuronsNeedImagesOfTheNetworksSize) {
  Graph graph = test::plain_residual();
  graph[0].op = Input{3, {6, 6}};
  const Dataset images = test::quadrants(4, 6);  // 3 x 8 x 8
  EXPECT_THROW(activation_ranges(graph, images, Comm::local(), at::kCPU, BoundsPer::kNeuron),
               SharedError);
  EXPECT_NO_THROW(activation_ranges(graph, images, Comm::local(), at::kCPU));
}

class WeightBounding : public testing::TestWithParam<Graph (*)()> {};

TEST_P(WeightBounding, ChangesNothingFaultFreeAndIsTight) {
  at::manual_seed(6);
  const Graph graph = GetParam()();
  const at::Tensor x = test::quadrants(20, 6).batch(0, 20, {}).images;
  for (const auto per : {WeightBoundsPer::kLayer, WeightBoundsPer::kChannel}) {
    const Graph bounded = bound_weights(graph, per);
    EXPECT_TRUE(at::equal(logits(bounded, x), logits(graph, x)));
    for (const auto& node : bounded.nodes()) {
      const WeightBounds* bounds = weight_bounds_of(node.op);
      if (!bounds) continue;
      const Conv* conv = as_conv(node.op);
      const at::Tensor weight = conv ? conv->weight : std::get<Linear>(node.op).weight;
      const bool layer = per == WeightBoundsPer::kLayer;
      EXPECT_EQ(bounds->low.dim(), layer ? 0 : 1);
      EXPECT_EQ(bounds->high.numel(), layer ? 1 : weight.size(0));
      const at::Tensor rows = weight.flatten(1);
      EXPECT_TRUE(at::equal(bounds->high, layer ? rows.max() : at::amax(rows, 1)));
      EXPECT_TRUE(at::equal(bounds->low, layer ? rows.min() : at::amin(rows, 1)));
    }
    EXPECT_THROW(bound_weights(bounded, per), UserError);
    EXPECT_EQ(model_cost(bounded).parameters, model_cost(graph).parameters);
    EXPECT_EQ(model_cost(bounded).macs, model_cost(graph).macs);
    EXPECT_GT(model_cost(bounded).memory_bytes, model_cost(graph).memory_bytes);
  }
}

TEST_P(WeightBounding, FollowsSortingAndCoversCopies) {
  at::manual_seed(7);
  const Graph graph = GetParam()();
  const auto scores = test::random_scores(graph, 7);
  const at::Tensor x = test::quadrants(20, 7).batch(0, 20, {}).images;
  const Graph bounded = bound_weights(graph, WeightBoundsPer::kChannel);
  // Sorted channels are summed in another order.
  EXPECT_LT(test::relative_difference(logits(graph, x), logits(sort_channels(bounded, scores), x)),
            test::kFloats);
  EXPECT_THROW(duplicate_channels(bounded, scores, {}), UserError);
  const Graph both =
      bound_weights(duplicate_channels(graph, scores, {}), WeightBoundsPer::kChannel);
  EXPECT_TRUE(at::equal(logits(both, x), logits(graph, x)));
}

TEST_P(WeightBounding, AloneIsAHardeningOfRatioZero) {
  at::manual_seed(8);
  const Graph graph = GetParam()();
  HardeningPlan plan;
  plan.duplication.ratio = 0;
  plan.restricted = false;
  plan.weight_bounds = WeightBoundsPer::kLayer;
  const Graph hardened = harden(graph, {}, plan, test::quadrants(5, 8), Comm::local(), at::kCPU);
  for (const auto& node : hardened.nodes()) {
    EXPECT_FALSE(std::holds_alternative<DuplicatedConv>(node.op));
    EXPECT_FALSE(std::holds_alternative<BoundedActivation>(node.op));
    if (const auto* bounds = weight_bounds_of(node.op)) {
      EXPECT_TRUE(bounds->low.defined()) << node.name;
    }
  }
  plan.restricted = true;
  const Graph restricted = harden(graph, {}, plan, test::quadrants(5, 8), Comm::local(), at::kCPU);
  for (const auto& node : restricted.nodes()) {
    if (const auto* relu = std::get_if<BoundedActivation>(&node.op)) {
      EXPECT_TRUE(at::isfinite(relu->bound).all().item<bool>()) << node.name;
    }
  }
}

TEST_P(WeightBounding, RefusesWeightsThatAreNotFinite) {
  Graph graph = GetParam()();
  as_conv(graph[1].op)->weight.flatten()[0] = std::nanf("");
  EXPECT_THROW(bound_weights(graph, WeightBoundsPer::kLayer), UserError);
}

INSTANTIATE_TEST_SUITE_P(Nets, WeightBounding,
                         testing::Values(test::plain_residual, test::vgg_like));

/// The seed tool's "l1-norm" is the L2 norm, its first member orders a group.
TEST(SeedTool, HardenedTheSameChannelsOfResNet20) {
  const std::string folder = test::data_folder() + "/models/";
  const std::string seed_file = folder + "seed_resnet20_hardened_0.1.pth";
  if (!std::filesystem::exists(seed_file)) GTEST_SKIP() << seed_file << " is not here";
  const std::string file = folder + "cifar10_resnet20.pth";
  const Graph graph = parse_model(read_file(file), file, "resnet20", "cifar10");
  DuplicationPlan seed = plan(0.1, RowLayout::kGroup, Correction::kMin);
  seed.group_score = GroupScore::kFirst;
  const Graph hardened =
      duplicate_channels(graph, importance_method("l2-norm")->score({graph}), seed);
  EXPECT_EQ(model_cost(hardened).parameters, 297365);
  EXPECT_EQ(model_cost(hardened).macs, 44183168);
  const StateDict ours = state_dict(hardened);
  const StateDict theirs = read_pth(seed_file).tensors;
  ASSERT_GT(theirs.size(), 100u);
  for (const auto& [name, tensor] : theirs) {
    ASSERT_TRUE(ours.contains(name)) << name;
    EXPECT_TRUE(at::equal(tensor, *ours.find(name))) << name;
  }
}

TEST(Ranges, AreThoseOfAllImagesWhateverTheBlocks) {
  at::manual_seed(6);
  const Graph graph = test::vgg_like();
  const Dataset images = test::quadrants(45, 6);
  const auto ranges = activation_ranges(graph, images, Comm::local(), at::kCPU);
  Trace trace{images.batch(0, 45, {}).images};
  run(graph, trace);
  std::vector<std::string> names;
  for (const auto* sites : {&ranges.activations, &ranges.convs}) {
    for (const auto& site : *sites) {
      names.push_back(site.name);
      const auto outputs =
          trace[static_cast<std::size_t>(graph.find(site.name))].transpose(0, 1).flatten(1);
      const auto options = at::TensorOptions(at::kDouble);
      EXPECT_TRUE(at::allclose(at::tensor(site.low, options), outputs.amin(1).to(at::kDouble),
                               test::kFewFloats, test::kFewFloats));
      EXPECT_TRUE(at::allclose(at::tensor(site.high, options), outputs.amax(1).to(at::kDouble),
                               test::kFewFloats, test::kFewFloats));
    }
  }
  EXPECT_THAT(names,
              ElementsAre("features.2", "features.6", "classifier.1", "features.0", "features.4"));
}

TEST(Ranges, RefuseAModelThatIsNotFinite) {
  at::manual_seed(6);
  for (const float value : {INFINITY, NAN}) {
    Graph graph = test::vgg_like();
    std::get<Conv>(graph[graph.find("features.4")].op).bias[3] = value;
    try {
      activation_ranges(graph, test::quadrants(40, 6), Comm::local(), at::kCPU);
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kData);
      EXPECT_THAT(error.what(), testing::HasSubstr("channel 3 of features."));
    }
  }
  EXPECT_THROW(activation_ranges(test::vgg_like(), test::quadrants(0, 6), Comm::local(), at::kCPU),
               SharedError);
}

TEST(Calibration, WithRangesOfAnotherGraphIsABug) {
  const auto ranges =
      activation_ranges(test::vgg_like(), test::quadrants(4, 6), Comm::local(), at::kCPU);
  Graph other = restrict_activations(test::plain_residual(), Clipping::kRanger, BoundsPer::kLayer);
  EXPECT_THROW(calibrate(other, ranges), Bug);
}

}  // namespace
}  // namespace sentinel
