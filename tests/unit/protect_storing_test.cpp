#include <gmock/gmock.h>

#include "sentinel/core/error.hpp"
#include "sentinel/protect/transform.hpp"
#include "unit/protect_support.hpp"

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

}  // namespace
}  // namespace sentinel
