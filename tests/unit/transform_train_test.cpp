#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <limits>

#include "sentinel/core/error.hpp"
#include "sentinel/core/stop.hpp"
#include "sentinel/graph/visit.hpp"
#include "sentinel/transform/harden.hpp"
#include "sentinel/transform/train.hpp"
#include "transform/augment.hpp"
#include "unit/tolerances.hpp"
#include "unit/transform_support.hpp"

namespace sentinel {
namespace {

TrainOptions quick(std::int64_t epochs) {
  TrainOptions options;
  options.epochs = epochs;
  options.batch_size = 16;
  options.learning_rate = 0.02;
  options.augment = false;
  return options;
}

std::vector<EpochReport> reports_of(Graph& graph, const Dataset& images, const Dataset& held_out,
                                    const TrainOptions& options) {
  std::vector<EpochReport> reports;
  train(graph, images, held_out, options, [&](const EpochReport& r) { reports.push_back(r); });
  return reports;
}

bool same_tensors(const Graph& a, const Graph& b) {
  std::vector<at::Tensor> left, right;
  for (NodeId id = 0; id < a.size(); ++id) {
    for_each_tensor(a[id].op, [&](const char*, const at::Tensor& t) { left.push_back(t); });
    for_each_tensor(b[id].op, [&](const char*, const at::Tensor& t) { right.push_back(t); });
  }
  return std::equal(left.begin(), left.end(), right.begin(), right.end(), test::same_bits);
}

TEST(Training, LearnsAndKeepsTheBestEpoch) {
  for (auto* make : {test::plain_residual, test::vgg_like}) {
    at::manual_seed(1);
    Graph graph = make();
    const Dataset held_out = test::quadrants(64, 2);
    const auto reports = reports_of(graph, test::quadrants(256, 1), held_out, quick(6));
    ASSERT_EQ(reports.size(), 6u);
    EXPECT_LT(reports.back().loss, 0.5 * reports.front().loss);
    double best = 0;
    for (const auto& report : reports) best = std::max(best, report.accuracy);
    const Accuracy after = evaluate(graph, held_out, at::kCPU);
    EXPECT_EQ(after.images, 64);
    EXPECT_DOUBLE_EQ(static_cast<double>(after.correct) / 64, best);
    EXPECT_GT(best, 0.9);
  }
}

/// Odd widths, an odd batch, a strided 1x1 shortcut and two threads: the weight gradients of
/// LibTorch 1.13 wrote past their buffers (asan or glibc find it, if it comes back).
TEST(Training, CopesWithPrunedWidths) {
  const int threads = at::get_num_threads();
  at::set_num_threads(2);
  at::manual_seed(1);
  Graph graph;
  NodeId x = graph.add("x", Input{3, {8, 8}}, {});
  x = graph.add("stem", test::conv(15, 3), {x});
  x = graph.add("shortcut", test::conv(29, 15, 1, 2), {x});
  x = graph.add("bn", test::batch_norm(29), {x});
  x = graph.add("pool", AdaptiveAvgPool{}, {x});
  x = graph.add("flatten", Flatten{}, {x});
  graph.add("fc", test::linear(4, 29), {x});
  TrainOptions options = quick(2);
  options.batch_size = 33;
  EXPECT_EQ(reports_of(graph, test::quadrants(99, 1), test::quadrants(9, 2), options).size(), 2u);
  at::set_num_threads(threads);
}

TEST(Training, IsAFunctionOfTheSeed) {
  const auto trained = [](std::uint64_t seed) {
    at::manual_seed(1);
    Graph graph = test::vgg_like();
    TrainOptions options = quick(2);
    options.seed = seed;
    options.augment = true;
    train(graph, test::quadrants(100, 1), test::quadrants(20, 2), options, {});
    return graph;
  };
  const Graph one = trained(1);
  EXPECT_TRUE(same_tensors(one, trained(1)));
  EXPECT_FALSE(same_tensors(one, trained(2)));
}

TEST(Training, LeavesPlainTensors) {
  at::manual_seed(1);
  Graph graph = test::plain_residual();
  train(graph, test::quadrants(33, 1), test::quadrants(5, 2), quick(1), {});
  for (const auto& node : graph.nodes()) {
    for_each_tensor(node.op, [&](const char* name, const at::Tensor& tensor) {
      EXPECT_FALSE(tensor.requires_grad()) << node.name << name;
      EXPECT_FALSE(tensor.grad().defined()) << node.name << name;
      EXPECT_TRUE(tensor.is_contiguous()) << node.name << name;
    });
  }
}

/// Three full-batch steps on a linear model, whose gradient is known.
TEST(Training, IsMomentumSgdWithWeightDecayOnACosine) {
  at::manual_seed(1);
  Graph graph;
  NodeId x = graph.add("x", Input{3, {8, 8}}, {});
  x = graph.add("flatten", Flatten{}, {x});
  graph.add("fc", test::linear(4, 192), {x});
  const Dataset images = test::quadrants(12, 1);
  const Batch batch = images.batch(0, 12, {});
  at::Tensor weight = std::get<Linear>(graph[2].op).weight.to(at::kDouble);
  at::Tensor bias = std::get<Linear>(graph[2].op).bias.to(at::kDouble);
  const auto inputs = batch.images.flatten(1).to(at::kDouble);
  const auto truth = at::one_hot(batch.labels, 4).to(at::kDouble);
  at::Tensor speed_w = at::zeros_like(weight), speed_b = at::zeros_like(bias);
  for (int step = 0; step < 3; ++step) {
    const double rate = 0.02 * 0.5 * (1 + std::cos(M_PI * step / 3));
    const auto error = (at::softmax(at::linear(inputs, weight, bias), 1) - truth) / 12;
    speed_w = speed_w * 0.9 + error.t().matmul(inputs) + weight * 0.01;
    speed_b = speed_b * 0.9 + error.sum(0) + bias * 0.01;
    weight = weight - speed_w * rate;
    bias = bias - speed_b * rate;
  }
  TrainOptions options = quick(3);
  options.weight_decay = 0.01;
  train(graph, images, test::quadrants(0, 1), options, {});
  const auto& trained = std::get<Linear>(graph[2].op);
  EXPECT_TRUE(
      at::allclose(trained.weight.to(at::kDouble), weight, test::kFloats, test::kFewFloats));
  EXPECT_TRUE(at::allclose(trained.bias.to(at::kDouble), bias, test::kFloats, test::kFewFloats));
}

TEST(Training, KeepsCopiesOfDuplicatedChannelsEqual) {
  at::manual_seed(1);
  const Graph plain = test::vgg_like();
  const Dataset images = test::quadrants(64, 1);
  Graph graph = harden(plain, test::random_scores(plain, 1), {}, images, Comm::local(), at::kCPU);
  const Graph before = graph.clone();
  const auto reports = reports_of(graph, images, images, quick(2));
  EXPECT_LT(reports[1].loss, reports[0].loss);
  for (NodeId id = 0; id < graph.size(); ++id) {
    const auto* op = std::get_if<DuplicatedConv>(&graph[id].op);
    if (!op) continue;
    const auto& weight = op->conv.weight;
    EXPECT_FALSE(test::same_bits(weight, std::get<DuplicatedConv>(before[id].op).conv.weight));
    EXPECT_TRUE(test::same_bits(weight.slice(0, op->out_channels()),
                                weight.index_select(0, at::tensor(op->duplicated))));
  }
}

TEST(Training, StopsBetweenStepsWithWhatWasBest) {
  at::manual_seed(1);
  Graph graph = test::vgg_like();
  const Graph before = graph.clone();
  request_stop(SIGUSR1);
  const auto reports = reports_of(graph, test::quadrants(64, 1), test::quadrants(8, 2), quick(3));
  request_stop(0);
  EXPECT_TRUE(reports.empty());
  EXPECT_TRUE(same_tensors(graph, before));
}

TEST(Training, RefusesNonsenseAndDivergence) {
  Graph graph = test::vgg_like();
  const Dataset images = test::quadrants(64, 1);
  EXPECT_THROW(train(graph, test::quadrants(0, 1), images, quick(1), {}), UserError);
  EXPECT_THROW(train(graph, images, images, quick(0), {}), UserError);
  TrainOptions options = quick(3);
  options.learning_rate = 1e30;
  EXPECT_THROW(train(graph, images, images, options, {}), UserError);
  EXPECT_FALSE(std::get<Linear>(graph[graph.size() - 1].op).weight.requires_grad());
}

TEST(Training, RefusalsNameTheOption) {
  Graph graph = test::vgg_like();
  const Dataset images = test::quadrants(64, 1);
  const auto refused = [&](const char* name, auto member, auto value) {
    TrainOptions options = quick(1);
    options.*member = value;
    try {
      train(graph, images, images, options, {});
      ADD_FAILURE() << name << " " << value;
    } catch (const UserError& e) {
      EXPECT_THAT(e.what(), testing::HasSubstr(name));
    }
  };
  const double infinity = std::numeric_limits<double>::infinity();
  for (const double rate : {0.0, -1.0, infinity, std::nan("")}) {
    refused("lr must", &TrainOptions::learning_rate, rate);
  }
  for (const double momentum : {1.0, -0.1, infinity, std::nan("")}) {
    refused("momentum must", &TrainOptions::momentum, momentum);
  }
  for (const double decay : {-1e-4, infinity, std::nan("")}) {
    refused("weight-decay must", &TrainOptions::weight_decay, decay);
  }
  refused("epochs must", &TrainOptions::epochs, std::int64_t{1000001});
  refused("batch-size must", &TrainOptions::batch_size, std::int64_t{0});
}

/// Bounds and intervals afterwards are those of the trained graph's own activations.
TEST(Training, RecalibrationFollowsTheNewActivations) {
  at::manual_seed(1);
  const Graph plain = test::vgg_like();
  const Dataset images = test::quadrants(64, 1);
  Graph graph = harden(plain, test::random_scores(plain, 1), {}, images, Comm::local(), at::kCPU);
  const Graph before = graph.clone();
  remove_limits(graph);
  train(graph, images, images, quick(3), {});
  Graph free = graph.clone();
  recalibrate(graph, images, Comm::local(), at::kCPU);
  const auto ranges = activation_ranges(free, images, Comm::local(), at::kCPU);
  std::size_t relus = 0;
  for (NodeId id = 0; id < graph.size(); ++id) {
    if (const auto* relu = std::get_if<BoundedActivation>(&graph[id].op)) {
      const auto& high = ranges.activations.at(relus++).high;
      const double bound = relu->bound.item<double>();
      EXPECT_NEAR(bound / *std::max_element(high.begin(), high.end()), 1 + 0x1p-10,
                  1e-6);  // two f32 roundings
      EXPECT_NE(bound, std::get<BoundedActivation>(before[id].op).bound.item<double>());
    } else if (const auto* conv = std::get_if<DuplicatedConv>(&graph[id].op)) {
      EXPECT_TRUE(at::isfinite(conv->low).all().item<bool>());
      EXPECT_FALSE(test::same_bits(conv->low, std::get<DuplicatedConv>(before[id].op).low));
    }
  }
  EXPECT_EQ(relus, 3u);
  const at::Tensor x = images.batch(0, 64, {}).images;
  EXPECT_TRUE(test::same_bits(logits(graph, x), logits(free, x)));
  // Old bounds do not matter: nothing changes from bounds that would stop everything.
  Graph stuck = graph.clone();
  for (NodeId id = 0; id < stuck.size(); ++id) {
    if (auto* relu = std::get_if<BoundedActivation>(&stuck[id].op)) relu->bound.fill_(1e-6);
  }
  recalibrate(stuck, images, Comm::local(), at::kCPU);
  EXPECT_TRUE(same_tensors(stuck, graph));
}

TEST(Training, RecalibrationBoundsTheNewWeights) {
  const Dataset images = test::quadrants(64, 1);
  for (const auto per : {WeightBoundsPer::kLayer, WeightBoundsPer::kChannel}) {
    Graph graph = bound_weights(test::plain_residual(), per);
    remove_limits(graph);
    TrainOptions options;
    options.epochs = 1;
    options.batch_size = 16;
    train(graph, images, images, options, nullptr);
    recalibrate(graph, images, Comm::local(), at::kCPU);
    for (const auto& node : graph.nodes()) {
      const WeightBounds* bounds = weight_bounds_of(node.op);
      if (!bounds) continue;
      const Conv* conv = as_conv(node.op);
      const at::Tensor rows = (conv ? conv->weight : std::get<Linear>(node.op).weight).flatten(1);
      const bool layer = per == WeightBoundsPer::kLayer;
      EXPECT_TRUE(at::equal(bounds->low, layer ? rows.min() : at::amin(rows, 1))) << node.name;
      EXPECT_TRUE(at::equal(bounds->high, layer ? rows.max() : at::amax(rows, 1))) << node.name;
    }
  }
}

TEST(Training, RecalibrationLeavesAnUnprotectedGraphAlone) {
  at::manual_seed(1);
  Graph graph = test::vgg_like();
  const Graph before = graph.clone();
  recalibrate(graph, test::quadrants(0, 1), Comm::local(), at::kCPU);
  EXPECT_TRUE(same_tensors(graph, before));
}

TEST(Evaluation, CountsWhateverTheBlocks) {
  at::manual_seed(1);
  const Graph graph = test::plain_residual();
  const Dataset images = test::quadrants(70, 1);
  const Batch all = images.batch(0, 70, {});
  const auto correct =
      logits(graph, all.images).argmax(1).eq(all.labels).sum().item<std::int64_t>();
  for (const std::int64_t block : {1, 32, 100}) {
    const Accuracy accuracy = evaluate(graph, images, at::kCPU, block);
    EXPECT_EQ(accuracy.images, 70);
    EXPECT_EQ(accuracy.correct, correct);
    EXPECT_EQ(accuracy.top5, 70);  // of four classes
  }
}

TEST(Evaluation, CountsNonFiniteLogitsAsWrong) {
  at::manual_seed(1);
  Graph graph = test::plain_residual();
  std::get<Linear>(graph[graph.size() - 1].op).bias[2] = NAN;
  const Accuracy accuracy = evaluate(graph, test::quadrants(10, 1), at::kCPU);
  EXPECT_EQ(accuracy.correct, 0);
  EXPECT_EQ(accuracy.top5, 0);
}

/// What an augmented pixel may be: the image moved by (down, right), flipped or not.
float moved(const at::Tensor& image, std::int64_t y, std::int64_t x, std::int64_t down,
            std::int64_t right, bool flip) {
  const std::int64_t row = y + down, column = (flip ? 7 - x : x) + right;
  if (row < 0 || row > 7 || column < 0 || column > 7) return -1.6f;  // (0 - 0.4) / 0.25
  return image[0][row][column].item<float>();
}

bool is_moved(const at::Tensor& image, const at::Tensor& result, std::int64_t down,
              std::int64_t right, bool flip) {
  for (std::int64_t y = 0; y < 8; ++y) {
    for (std::int64_t x = 0; x < 8; ++x) {
      const float expected = moved(image, y, x, down, right, flip);
      if (std::fabs(expected - result[0][y][x].item<float>()) > 1e-6) return false;
    }
  }
  return true;
}

TEST(Augmentation, IsACropOfThePaddedImageFlippedOrNot) {
  const Dataset images = test::quadrants(6, 3);
  const auto before = images.batch(0, 6, {}).images;
  Rng rng({1, 0, 1, Purpose::kAugment});
  const auto after = augment(before, images.info().normalisation(), rng);
  for (std::int64_t n = 0; n < 6; ++n) {
    int matches = 0;
    for (std::int64_t k = 0; k < 9 * 9 * 2; ++k) {
      matches += is_moved(before[n], after[n], k / 18 - 4, k / 2 % 9 - 4, k % 2 == 1);
    }
    EXPECT_EQ(matches, 1) << n;
  }
}

}  // namespace
}  // namespace sentinel
