#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <iostream>

#include "sentinel/core/error.hpp"
#include "sentinel/graph/profile.hpp"
#include "sentinel/graph/visit.hpp"
#include "unit/transform_support.hpp"

namespace sentinel {
namespace {

using testing::DoubleNear;
using testing::ElementsAre;
using testing::HasSubstr;

// Relative. f32 logits are off by some 1e-6, which a small Z_t - Z_j magnifies in the score.
// The f32 margin between two logits divides, squared, and what it lost to rounding grows with it:
// 1.4e-6 with the reference BLAS, 1.4e-5 with OpenBLAS 0.3.21, which adds in another order.
constexpr double kTolerance = 1e-4;

ChannelScores vul_gain(const Graph& graph, const Dataset& images) {
  return importance_method("vul-gain")->score({graph, &images});
}

/// Images 3x2x2 with these pixels (0 or 1) in the first channel and 0 in the others.
Dataset dots(const std::vector<std::array<int, 4>>& images) {
  DatasetInfo info;
  info.name = "dots";
  info.shape = {3, 2, 2};
  info.mean = {0, 0, 0};
  info.std = {1, 1, 1};
  std::vector<std::uint8_t> pixels;
  for (const auto& image : images) {
    for (const int dot : image) pixels.push_back(dot == 0 ? 0 : 255);
    pixels.insert(pixels.end(), 8, 0);
  }
  return Dataset(info, std::move(pixels), std::vector<std::int64_t>(images.size(), 0));
}

/// Images `indices` of `images`.
Dataset chosen(const Dataset& images, const std::vector<std::int64_t>& indices) {
  const auto& shape = images.info().shape;
  const std::int64_t bytes = shape[0] * shape[1] * shape[2];
  std::vector<std::uint8_t> pixels;
  for (const std::int64_t i : indices) {
    const auto begin = images.pixels().begin() + i * bytes;
    pixels.insert(pixels.end(), begin, begin + bytes);
  }
  return Dataset(images.info(), std::move(pixels), std::vector<std::int64_t>(indices.size(), 0));
}

Dataset range(const Dataset& images, std::int64_t begin, std::int64_t end) {
  std::vector<std::int64_t> indices;
  for (std::int64_t i = begin; i < end; ++i) indices.push_back(i);
  return chosen(images, indices);
}

/// The definition, word for word: for every image and every class the gradient of the whole weight,
/// by autograd in double. [convolution][channel]
class Naive {
 public:
  explicit Naive(const Graph& graph) : graph_(graph.clone()) {
    for (NodeId id = 0; id < graph_.size(); ++id) {
      for_each_tensor(graph_[id].op, [](const char*, at::Tensor& t) {
        if (t.is_floating_point()) t = t.to(at::kDouble);
      });
      Conv* conv = as_conv(graph_[id].op);
      if (!conv) continue;
      conv->weight.requires_grad_(true);
      weights_.push_back(conv->weight);
    }
  }

  std::vector<at::Tensor> score(const Dataset& images) const {
    std::vector<at::Tensor> sums;
    for (const at::Tensor& w : weights_) sums.push_back(at::zeros({w.size(0)}, at::kDouble));
    for (std::int64_t i = 0; i < images.size(); ++i) {
      add(images.batch(i, i + 1, {}).images.to(at::kDouble), sums);
    }
    for (at::Tensor& sum : sums) sum /= images.size();
    return sums;
  }

 private:
  void add(const at::Tensor& image, std::vector<at::Tensor>& sums) const {
    Trace trace{image};
    const at::Tensor z = run(graph_, trace)[0];
    const auto t = z.argmax().item<std::int64_t>();
    for (std::int64_t j = 0; j < z.size(0); ++j) {
      if (j == t) continue;
      const at::Tensor margin = z[t] - z[j];
      const auto gradients = torch::autograd::grad({margin}, weights_, {}, true);
      const double m = margin.item<double>(), denominator = m == 0 ? 1 : m * m;
      for (std::size_t k = 0; k < sums.size(); ++k) {
        sums[k] += gradients[k].square().flatten(1).sum(1) / denominator;
      }
    }
  }

  Graph graph_;
  std::vector<at::Tensor> weights_;
};

/// Largest relative difference of two layers' scores, in the layer's largest.
double deviation(const std::vector<double>& ours, const std::vector<double>& theirs) {
  EXPECT_EQ(ours.size(), theirs.size());
  double largest = 0, scale = 0;
  for (std::size_t c = 0; c < ours.size(); ++c) {
    largest = std::max(largest, std::abs(ours[c] - theirs[c]));
    scale = std::max(scale, std::abs(theirs[c]));
  }
  EXPECT_GT(scale, 0);
  return largest / scale;
}

/// The channels of the originals.
std::vector<double> first_values(const at::Tensor& scores, std::size_t count) {
  const double* begin = scores.data_ptr<double>();
  return {begin, begin + count};
}

void expect_as_naive(const Graph& graph, const Dataset& images) {
  const ChannelScores ours = vul_gain(graph, images);
  const auto theirs = Naive(graph).score(images);
  ASSERT_EQ(ours.size(), theirs.size());
  double largest = 0;
  for (std::size_t k = 0; k < ours.size(); ++k) {
    const auto channels = channel_counts(graph)[static_cast<std::size_t>(ours[k].node)];
    ASSERT_EQ(static_cast<std::int64_t>(ours[k].scores.size()), channels) << ours[k].layer;
    const double off = deviation(ours[k].scores, first_values(theirs[k], ours[k].scores.size()));
    EXPECT_LE(off, kTolerance) << ours[k].layer;
    largest = std::max(largest, off);
  }
  std::cout << "[ vul-gain ] at most " << largest << " of a layer's largest score\n";
}

void expect_same(const ChannelScores& a, const ChannelScores& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t k = 0; k < a.size(); ++k) {
    EXPECT_LE(deviation(a[k].scores, b[k].scores), kTolerance) << a[k].layer;
  }
}

/// Kernels, strides, paddings and dilations that differ between height and width; groups.
Graph odd_windows() {
  Graph g;
  NodeId x = g.add("x", Input{3, {8, 8}}, {});
  Conv stem = test::conv(6, 3);
  stem.weight = test::values({6, 3, 3, 2}) * 0.3;
  stem.stride = {1, 2};
  stem.padding = {0, 2};
  x = g.add("stem", stem, {x});
  x = g.add("relu1", Activation{}, {x});
  Conv grouped = test::conv(9, 6, 3, 1, 3, true);
  grouped.weight = test::values({9, 2, 1, 3}) * 0.3;
  grouped.stride = {2, 1};
  grouped.padding = {1, 2};
  grouped.dilation = {3, 2};
  x = g.add("grouped", grouped, {x});
  x = g.add("relu2", Activation{}, {x});
  x = g.add("multiplier", test::conv(18, 9, 3, 2, 9), {x});
  x = g.add("flatten", Flatten{}, {x});
  const std::int64_t features = channel_counts(g).back();
  g.add("fc", test::linear(4, features), {x});
  return g;
}

TEST(VulGain, IsTheDefinitionOnResidualNets) {
  at::manual_seed(11);
  expect_as_naive(test::plain_residual(), test::quadrants(6, 1));
}

TEST(VulGain, IsTheDefinitionWithDuplicatedConvsAndBoundedRelus) {
  at::manual_seed(12);
  expect_as_naive(test::residual_graph(), test::quadrants(6, 2));
}

TEST(VulGain, IsTheDefinitionWithGroupsDepthwiseConcatAndShuffle) {
  at::manual_seed(13);
  Graph graph = test::concat_graph();
  std::get<Input>(graph[0].op).channels = 3;
  as_conv(graph[graph.find("stem")].op)->weight = test::values({8, 3, 3, 3}) * 0.3;
  expect_as_naive(graph, test::quadrants(6, 3));
}

TEST(VulGain, IsTheDefinitionWithBiasesPoolsAndHiddenLinearLayers) {
  at::manual_seed(14);
  expect_as_naive(test::vgg_like(), test::quadrants(6, 4));
}

TEST(VulGain, IsTheDefinitionWithOddWindows) {
  at::manual_seed(15);
  expect_as_naive(odd_windows(), test::quadrants(6, 5));
}

TEST(VulGain, IsTheDefinitionWithGroupedDuplicatedConvs) {
  at::manual_seed(16);
  Graph graph = odd_windows();
  Node& node = graph[graph.find("grouped")];
  node.op = test::duplicated(*as_conv(node.op), {7, 0});
  expect_as_naive(graph, test::quadrants(6, 6));
}

TEST(VulGain, IsTheDefinitionWhereLayersAreComputedPieceByPiece) {
  at::manual_seed(23);
  Graph g;
  NodeId x = g.add("x", Input{3, {8, 8}}, {});
  x = g.add("few_images", test::conv(128, 3), {x});
  x = g.add("relu1", Activation{}, {x});
  x = g.add("few_rows", test::conv(128, 128), {x});
  x = g.add("relu2", Activation{}, {x});
  x = g.add("few_rows_in_groups", test::conv(128, 128, 5, 2, 2), {x});
  x = g.add("relu3", Activation{}, {x});
  x = g.add("pool", AdaptiveAvgPool{}, {x});
  x = g.add("flatten", Flatten{}, {x});
  g.add("fc", test::linear(4, 128), {x});
  expect_as_naive(g, test::quadrants(5, 14));
}

TEST(VulGain, BlocksDoNotShow) {
  at::manual_seed(17);
  const Graph graph = test::plain_residual();
  const Dataset images = test::quadrants(65, 7);
  const ChannelScores whole = vul_gain(graph, images);
  expect_as_naive(graph, range(images, 0, 33));
  ChannelScores joined = vul_gain(graph, range(images, 0, 32));
  const ChannelScores second = vul_gain(graph, range(images, 32, 64));
  const ChannelScores last = vul_gain(graph, range(images, 64, 65));
  for (std::size_t k = 0; k < joined.size(); ++k) {
    for (std::size_t c = 0; c < joined[k].scores.size(); ++c) {
      double& score = joined[k].scores[c];
      score = (32 * score + 32 * second[k].scores[c] + last[k].scores[c]) / 65;
    }
  }
  expect_same(joined, whole);
}

TEST(VulGain, ImagesSeenTwiceChangeNothing) {
  at::manual_seed(18);
  const Graph graph = test::vgg_like();
  const Dataset images = test::quadrants(20, 8);
  std::vector<std::int64_t> twice;
  for (std::int64_t i = 0; i < 40; ++i) twice.push_back(i / 2);
  expect_same(vul_gain(graph, chosen(images, twice)), vul_gain(graph, images));
}

TEST(VulGain, OfANetSolvedByHandWithATie) {
  // Z = (w0 m, w1 m, -1) with m the mean of the dots and w0 = w1: t = 0, Z_0 = Z_1 exactly.
  Graph graph;
  NodeId x = graph.add("x", Input{3, {2, 2}}, {});
  x = graph.add("conv", test::conv(2, 3, 1), {x});
  as_conv(graph[x].op)->weight = at::full({2, 3, 1, 1}, 0.5F);
  x = graph.add("pool", AdaptiveAvgPool{}, {x});
  x = graph.add("flatten", Flatten{}, {x});
  const at::Tensor head = at::tensor({1.F, 0.F, 0.F, 1.F, 0.F, 0.F}).view({3, 2});
  graph.add("fc", Linear{head, at::tensor({0.F, 0.F, -1.F})}, {x});
  const auto tie = [](double m) { return m * m; };
  const auto other = [](double m) { return m * m / ((0.5 * m + 1) * (0.5 * m + 1)); };
  const double first = (tie(0.5) + other(0.5) + tie(1) + other(1)) / 2;
  const double second = (tie(0.5) + tie(1)) / 2;
  const ChannelScores scores = vul_gain(graph, dots({{1, 0, 0, 1}, {1, 1, 1, 1}}));
  ASSERT_EQ(scores.size(), 1u);
  EXPECT_THAT(scores[0].scores, ElementsAre(DoubleNear(first, 1e-6), DoubleNear(second, 1e-6)));
}

TEST(VulGain, AConvolutionNobodyReadsScoresZero) {
  at::manual_seed(19);
  Graph graph;
  const NodeId x = graph.add("x", Input{3, {8, 8}}, {});
  graph.add("dead", test::conv(4, 3), {x});
  NodeId y = graph.add("conv", test::conv(5, 3), {x});
  y = graph.add("pool", AdaptiveAvgPool{}, {y});
  y = graph.add("flatten", Flatten{}, {y});
  graph.add("fc", test::linear(4, 5), {y});
  const ChannelScores scores = vul_gain(graph, test::quadrants(3, 9));
  EXPECT_THAT(scores.at(0).scores, testing::Each(0.0));
  EXPECT_THAT(scores.at(1).scores, testing::Each(testing::Gt(0.0)));
}

TEST(VulGain, LeavesTheGraphAsItWas) {
  at::manual_seed(20);
  const Graph graph = test::residual_graph();
  const Graph before = graph.clone();
  vul_gain(graph, test::quadrants(3, 10));
  for (NodeId id = 0; id < graph.size(); ++id) {
    std::vector<at::Tensor> now, then;
    for_each_tensor(graph[id].op, [&](const char*, const at::Tensor& t) { now.push_back(t); });
    for_each_tensor(before[id].op, [&](const char*, const at::Tensor& t) { then.push_back(t); });
    for (std::size_t i = 0; i < now.size(); ++i) {
      EXPECT_TRUE(test::same_bits(now[i], then[i])) << graph[id].name;
      EXPECT_FALSE(now[i].requires_grad()) << graph[id].name;
    }
  }
}

std::string failure(const Graph& graph, const Dataset& images, ExitCode code) {
  try {
    vul_gain(graph, images);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code);
    return error.what();
  }
  return "no error";
}

TEST(VulGain, LogitsThatAreNotFiniteAreAnError) {
  at::manual_seed(21);
  Graph graph = test::plain_residual();
  std::get<Linear>(graph[graph.find("fc")].op).bias[2] = INFINITY;
  const std::string message = failure(graph, test::quadrants(3, 11), ExitCode::kData);
  EXPECT_THAT(message, HasSubstr("fc"));
  EXPECT_THAT(message, HasSubstr("image 0"));
}

TEST(VulGain, ScoresThatAreNotFiniteAreAnError) {
  at::manual_seed(22);
  Graph graph = test::plain_residual();
  // Finite logits, as the scale and the weights cancel; gradients behind the scale overflow.
  const auto stem = graph.find("conv1"), bn = graph.find("bn1");
  as_conv(graph[stem].op)->weight.mul_(1e-30);
  auto& norm = std::get<BatchNorm>(graph[bn].op);
  norm.mean.zero_();
  norm.var.fill_(1);
  norm.weight.fill_(1e30);
  as_conv(graph[stem].op)->weight[3].zero_();
  norm.weight[3] = 3e38;
  norm.bias[3] = 1;
  std::get<Linear>(graph[graph.find("fc")].op).weight.mul_(100);
  const std::string message = failure(graph, test::quadrants(3, 12), ExitCode::kData);
  EXPECT_THAT(message, HasSubstr("channel 3 of conv1"));
}

TEST(VulGain, NeedsImages) {
  const Graph graph = test::vgg_like();
  EXPECT_THAT(failure(graph, test::quadrants(0, 13), ExitCode::kUsage), HasSubstr("image"));
  EXPECT_EQ(importance_method("vul-gain")->default_images(), 256);
}

}  // namespace
}  // namespace sentinel
