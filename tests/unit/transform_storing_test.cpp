#include <gmock/gmock.h>

#include "sentinel/core/error.hpp"
#include "sentinel/transform/harden.hpp"
#include "sentinel/transform/prune.hpp"
#include "unit/tolerances.hpp"
#include "unit/transform_support.hpp"

namespace sentinel {
namespace {

TEST(StoredBounds, CutNothingWithoutFaults) {
  at::manual_seed(11);
  const Graph graph = test::vgg_like();
  const Dataset images = test::quadrants(40, 11);
  const at::Tensor batch = images.batch(0, 40, {}).images;
  const ChannelScores scores = test::random_scores(graph, 11);
  Graph unbounded = graph.clone();
  store_values(unbounded, {parse_store_rule("weight=int8")});
  const at::Tensor plain = logits(unbounded, batch);
  HardeningPlan plan;
  plan.weight_bounds = WeightBoundsPer::kChannel;
  for (const std::string bound :
       {"fp16+repeat:3", "bf16", "fixed:9.6", "fixed:9.6,trunc", "fp32+tmr:sign-exponent"}) {
    plan.store = {parse_store_rule("weight=int8"), parse_store_rule("bound=" + bound)};
    const Graph hardened = harden(graph, scores, plan, images, Comm::local(), at::kCPU);
    EXPECT_TRUE(test::same_bits(logits(hardened, batch), plain)) << bound;
    for (const StoredTensor& tensor : stored_tensors(hardened))
      if (tensor.kind == TensorClass::kBound) {
        EXPECT_TRUE(is_stored_exactly(hardened, tensor.name)) << tensor.name << " " << bound;
      }
    EXPECT_EQ(layout_name(hardened.storage.at("features.0.weight_low").layout).substr(0, 4),
              bound.substr(0, 4));
  }
  plan.store = {parse_store_rule("bound=fixed:0.3")};
  EXPECT_THROW(harden(graph, scores, plan, images, Comm::local(), at::kCPU), SharedError);
  for (const char* scaled : {"bound=fp8:e4m3", "bound=int8:tensor", "scale=int4"})
    EXPECT_THROW(parse_store_rule(scaled), UserError) << scaled;
}

TEST(StoredBounds, KeepWeightsAsTheyAre) {
  const Graph bounded = bound_weights(test::vgg_like(), WeightBoundsPer::kChannel);
  const Dataset images = test::quadrants(8, 1);
  const ChannelScores scores = test::random_scores(bounded, 1);
  HardeningPlan plan;
  plan.duplication.ratio = 0;
  plan.store = {parse_store_rule("bn=fp16"), parse_store_rule("weight=fp32")};
  harden(bounded, scores, plan, images, Comm::local(), at::kCPU);
  plan.store.push_back(parse_store_rule("weight=int8"));
  EXPECT_THROW(harden(bounded, scores, plan, images, Comm::local(), at::kCPU), SharedError);
}

/// Every tensor's layout, with the scales and words of those that have scales.
struct Memory {
  std::string layout;
  at::Tensor scale, values;
};
std::map<std::string, Memory> memory_of(const Graph& graph) {
  std::map<std::string, Memory> memory;
  for (const StoredTensor& tensor : stored_tensors(graph)) {
    if (tensor.kind == TensorClass::kScale || tensor.kind == TensorClass::kCheck) continue;
    const auto own = graph.storage.find(tensor.name);
    memory[tensor.name] = {layout_name(tensor.layout),
                           own == graph.storage.end() ? at::Tensor() : own->second.scale,
                           values_of(graph, tensor)};
  }
  return memory;
}

/// Another code does not touch words, scales and values, whatever amax / 7 of the values is.
TEST(StoringAgain, KeepsWordsAndScalesOfAFormat) {
  at::manual_seed(5);
  Graph graph = test::vgg_like();
  store_values(graph, {parse_store_rule("weight=int4"), parse_store_rule("bias=int8")});
  for (auto& [entry, storage] : graph.storage) {
    if (!storage.scale.defined()) continue;
    const at::Tensor odd = storage.scale * 1.2345F;  // no longer the largest magnitude's
    rescale(graph, entry, odd);
  }
  const auto before = memory_of(graph);
  store_values(graph, {parse_store_rule("weight=int4+bch:8,4"), parse_store_rule("bias=int8"),
                       parse_store_rule("bn=fp16")});
  const auto after = memory_of(graph);
  for (const auto& [entry, own] : before) {
    if (!own.scale.defined()) continue;
    EXPECT_TRUE(test::same_bits(own.scale, after.at(entry).scale)) << entry;
    EXPECT_TRUE(test::same_bits(own.values, after.at(entry).values)) << entry;
  }
  EXPECT_EQ(after.at("features.0.weight").layout, "int4:channel+bch:8,4");
  EXPECT_EQ(after.at("features.1.weight").layout, "fp16");
  store_values(graph, {parse_store_rule("weight,bias,bn=fp32")});
  EXPECT_TRUE(graph.storage.empty());
}

/// Sorting, pruning and duplicating move scales with the rows that they are for.
TEST(StoredNetworks, KeepTheirWordsInOtherShapes) {
  at::manual_seed(6);
  for (auto* make : {test::vgg_like, test::plain_residual}) {
    const Graph plain = make();
    const Dataset images = test::quadrants(40, 6);
    const at::Tensor batch = images.batch(0, 40, {}).images;
    const ChannelScores scores = test::random_scores(plain, 6);
    Graph graph = plain.clone();
    store_values(graph, {parse_store_rule("weight=int4+secded:64"), parse_store_rule("bn=bf16"),
                         parse_store_rule("scale=fp16")});
    HardeningPlan own, group;
    own.duplication.ratio = group.duplication.ratio = 0.4;
    group.duplication.layout = RowLayout::kGroup;
    for (const Graph& made :
         {sort_channels(graph, scores, GroupScore::kMean), prune(graph, scores, {0.4, {}, {}}),
          harden(graph, scores, own, images, Comm::local(), at::kCPU),
          harden(graph, scores, group, images, Comm::local(), at::kCPU)}) {
      for (const auto& [entry, storage] : made.storage)
        if (entry.find("_scale") == std::string::npos) {
          EXPECT_TRUE(is_stored_exactly(made, entry)) << entry;
        }
      EXPECT_EQ(made.storage.size(), graph.storage.size());
    }
    const Graph hardened = harden(graph, scores, own, images, Comm::local(), at::kCPU);
    EXPECT_LT(test::relative_difference(logits(hardened, batch), logits(graph, batch)),
              test::kFewFloats);
  }
}

}  // namespace
}  // namespace sentinel
