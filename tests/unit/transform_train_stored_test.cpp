#include <gmock/gmock.h>

#include <cmath>

#include "sentinel/core/error.hpp"
#include "sentinel/graph/visit.hpp"
#include "sentinel/transform/harden.hpp"
#include "sentinel/transform/train.hpp"
#include "transform/straight_through.hpp"
#include "unit/tolerances.hpp"
#include "unit/transform_support.hpp"

namespace sentinel {
namespace {

using testing::HasSubstr;

std::vector<StoreRule> rules(const std::vector<std::string>& texts) {
  std::vector<StoreRule> all;
  for (const std::string& text : texts) all.push_back(parse_store_rule(text));
  return all;
}

TrainOptions quick(std::int64_t epochs, const std::vector<std::string>& store) {
  TrainOptions options;
  options.epochs = epochs;
  options.batch_size = 16;
  options.learning_rate = 0.02;
  options.augment = false;
  options.store = rules(store);
  return options;
}

Graph linear_net() {
  Graph graph;
  NodeId x = graph.add("x", Input{3, {8, 8}}, {});
  x = graph.add("flatten", Flatten{}, {x});
  graph.add("fc", test::linear(4, 192), {x});
  return graph;
}

bool all_exact(const Graph& graph) {
  for (const auto& [entry, storage] : graph.storage)
    if (entry.find("_scale") == std::string::npos && !is_stored_exactly(graph, entry)) return false;
  return true;
}

/// In every layout the network shows what store_as makes of the masters, and each master gets the
/// gradient of what was shown, those beyond a format's range too.
TEST(StraightThrough, ShowsWhatIsReadAndPassesGradientsOn) {
  at::manual_seed(3);
  for (const char* layout :
       {"int4", "int4:tensor+bch:8,4", "int7+zero-space", "fp32+cep:d3", "fp32+mset", "fixed:0.3",
        "int8+parity", "int8+secded:64", "fp8:e4m3", "fp16+repeat:3", "int2"}) {
    Graph graph = linear_net(), stored = linear_net();
    at::Tensor& weight = std::get<Linear>(graph[2].op).weight;
    weight = at::randn({4, 192}).requires_grad_(true);
    std::get<Linear>(stored[2].op).weight = weight.detach().clone();
    const auto how = rules({std::string("weight=") + layout, "scale=fp16+repeat:3"});
    store_values(stored, how);
    const at::Tensor master = weight, factors = at::randn({4, 192});
    const std::vector<Master> masters = masters_of(graph, layouts_by(how, graph));
    ASSERT_EQ(masters.size(), 1u);
    {
      const AsRead as_read(masters);
      EXPECT_TRUE(test::same_bits(weight.detach(), std::get<Linear>(stored[2].op).weight))
          << layout;
      EXPECT_FALSE(test::same_bits(weight.detach(), master.detach())) << layout;
      (weight * factors).sum().backward();
    }
    EXPECT_TRUE(weight.is_same(master));
    EXPECT_TRUE(test::same_bits(master.grad(), factors)) << layout;
  }
}

/// Three full-batch steps on a linear model, whose gradient is known, in double.
TEST(StoredTraining, StepsTheMastersByTheGradientsOfWhatIsRead) {
  at::manual_seed(1);
  Graph graph = linear_net();
  const Dataset images = test::quadrants(12, 1);
  const Batch batch = images.batch(0, 12, {});
  at::Tensor weight = std::get<Linear>(graph[2].op).weight.to(at::kDouble);
  at::Tensor bias = std::get<Linear>(graph[2].op).bias.to(at::kDouble);
  const auto inputs = batch.images.flatten(1).to(at::kDouble);
  const auto truth = at::one_hot(batch.labels, 4).to(at::kDouble);
  const auto read = [](const at::Tensor& master) {
    const at::Tensor scale = master.abs().amax(1, true) / 7;
    return at::round(master / scale) * scale;
  };
  at::Tensor speed_w = at::zeros_like(weight), speed_b = at::zeros_like(bias);
  for (int step = 0; step < 3; ++step) {
    const double rate = 0.02 * 0.5 * (1 + std::cos(M_PI * step / 3));
    const auto error = (at::softmax(at::linear(inputs, read(weight), bias), 1) - truth) / 12;
    speed_w = speed_w * 0.9 + error.t().matmul(inputs) + weight * 1e-4;
    speed_b = speed_b * 0.9 + error.sum(0) + bias * 1e-4;
    weight = weight - speed_w * rate;
    bias = bias - speed_b * rate;
  }
  train(graph, images, test::quadrants(0, 1), quick(3, {"weight=int4+bch:8,4"}), {});
  const auto& trained = std::get<Linear>(graph[2].op);
  EXPECT_TRUE(
      at::allclose(trained.weight.to(at::kDouble), read(weight), test::kFloats, test::kFewFloats));
  EXPECT_TRUE(at::allclose(trained.bias.to(at::kDouble), bias, test::kFloats, test::kFewFloats));
  EXPECT_EQ(layout_name(graph.storage.at("fc.weight").layout), "int4:channel+bch:8,4");
  EXPECT_TRUE(all_exact(graph));
}

/// The best epoch is that of the network as it is written: two bits a weight cost something.
TEST(StoredTraining, JudgesAndLeavesTheNetworkStored) {
  at::manual_seed(1);
  Graph graph = test::plain_residual();
  const Dataset held_out = test::quadrants(64, 2);
  std::vector<EpochReport> reports;
  train(graph, test::quadrants(256, 1), held_out,
        quick(5, {"weight=int3", "bias,bn,scale=fp16+repeat:3"}),
        [&](const EpochReport& report) { reports.push_back(report); });
  double best = 0;
  for (const EpochReport& report : reports) best = std::max(best, report.accuracy);
  EXPECT_DOUBLE_EQ(static_cast<double>(evaluate(graph, held_out, at::kCPU).correct) / 64, best);
  EXPECT_LT(reports.back().loss, 0.7 * reports.front().loss);
  EXPECT_TRUE(all_exact(graph));
  for (const StoredTensor& tensor : stored_tensors(graph)) {
    const char* expected = tensor.kind == TensorClass::kWeight ? "int3:channel" : "fp16+repeat:3";
    EXPECT_EQ(layout_name(tensor.layout), expected) << tensor.name;
    EXPECT_FALSE(values_of(graph, tensor).requires_grad()) << tensor.name;
  }
}

/// A tensor that is stored already stays so, unless a rule says otherwise.
TEST(StoredTraining, GoesOnWithTheLayoutsOfTheNetwork) {
  at::manual_seed(1);
  const Dataset images = test::quadrants(64, 1);
  Graph plain = test::plain_residual();
  store_values(plain, rules({"weight=int8"}));
  Graph unstored = plain.clone(), by_rules = plain.clone();
  by_rules.storage.clear();
  train(plain, images, images, quick(2, {}), {});
  train(by_rules, images, images, quick(2, {"weight=int8"}), {});
  train(unstored, images, images, quick(2, {"weight=fp32"}), {});
  EXPECT_TRUE(all_exact(plain));
  EXPECT_EQ(plain.storage.size(), 7u);
  EXPECT_TRUE(unstored.storage.empty());
  for (const auto& [entry, storage] : by_rules.storage)
    EXPECT_TRUE(test::same_bits(storage.scale, plain.storage.at(entry).scale)) << entry;
}

/// Bounds follow the trained values and cut nothing.
TEST(StoredTraining, StoresTheNewBounds) {
  at::manual_seed(1);
  const Graph plain = test::vgg_like();
  const Dataset images = test::quadrants(64, 1);
  HardeningPlan plan;
  plan.weight_bounds = WeightBoundsPer::kChannel;
  plan.store = rules({"weight=int5+bch:16,5", "bound=bf16+repeat:3"});
  Graph graph = harden(plain, test::random_scores(plain, 1), plan, images, Comm::local(), at::kCPU);
  const at::Tensor before = graph.storage.at("features.0.weight").scale;
  ASSERT_TRUE(fit(graph, images, images, BestOn::kHeldOut, quick(2, {}), {}));
  EXPECT_FALSE(test::same_bits(graph.storage.at("features.0.weight").scale, before));
  EXPECT_TRUE(all_exact(graph));
  for (const StoredTensor& tensor : stored_tensors(graph)) {
    if (tensor.kind == TensorClass::kBound) {
      EXPECT_EQ(layout_name(tensor.layout), "bf16+repeat:3") << tensor.name;
    }
  }
  Graph free = graph.clone();
  remove_limits(free);
  const at::Tensor x = images.batch(0, 64, {}).images;
  EXPECT_TRUE(test::same_bits(logits(graph, x), logits(free, x)));
}

TEST(StoredTraining, RefusesRulesThatNameNothing) {
  Graph graph = test::plain_residual();
  const Dataset images = test::quadrants(64, 1);
  const auto refusal = [&](const std::string& rule) {
    try {
      fit(graph, images, images, BestOn::kHeldOut, quick(1, {"weight=int4", rule}), {});
    } catch (const UserError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_THAT(refusal("bound=fp16"), HasSubstr("store bound=fp16: the network has no such"));
  EXPECT_THAT(refusal("weight@layer9.*=int8"), HasSubstr("no such tensors"));
  EXPECT_EQ(refusal("scale=fp16"), "");
}

}  // namespace
}  // namespace sentinel
