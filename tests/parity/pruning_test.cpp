// Pruning of real networks against what the seed tool made of them.
#include <iostream>

#include "parity/support.hpp"
#include "sentinel/graph/profile.hpp"
#include "sentinel/models/model.hpp"
#include "sentinel/transform/prune.hpp"
#include "sentinel/transform/train.hpp"

namespace sentinel::parity {
namespace {

constexpr std::int64_t kParameters = 224968, kMacs = 34423620;  // of the seed tool's ratio 0.1

Graph pruned(const Graph& graph, double ratio, GroupScore how) {
  return prune(graph, importance_method("l2-norm")->score({graph}), {ratio, {}, how});
}

void expect_cost(const Graph& graph) {
  EXPECT_EQ(model_cost(graph).parameters, kParameters);
  EXPECT_EQ(model_cost(graph).macs, kMacs);
}

class Pruning : public RealData {};

TEST_F(Pruning, CostsWhatTheSeedToolsPrunedNetworkCosts) {
  const Graph graph = load("resnet20");
  for (const auto how : {GroupScore::kMean, GroupScore::kFirst}) {
    expect_cost(pruned(graph, 0.1, how));
  }
}

TEST_F(Pruning, LosesTheAccuracyThatTheSeedToolLosesBeforeFineTuning) {
  constexpr double kSeed = 0.6598;  // of the 1017 test images
  const Graph graph = pruned(load("resnet20"), 0.1, GroupScore::kFirst);
  const Accuracy accuracy = evaluate(graph, images(Split::kTest), at::kCPU);
  const double share = static_cast<double>(accuracy.correct) / static_cast<double>(accuracy.images);
  std::cout << "[ parity   ] pruned by 0.1, not fine-tuned: " << accuracy.correct << " of "
            << accuracy.images << " right, the seed tool 65.98 %\n";
  EXPECT_NEAR(share, kSeed, 2.0 / 1017);  // an image or two may lie within rounding
}

class PruningOf : public RealData {};

TEST_P(PruningOf, NothingLeavesEveryPrediction) {
  const Graph graph = load(GetParam());
  const Dataset test = images(Split::kTest);
  const at::Tensor before = all_logits(graph, test);
  const at::Tensor after = all_logits(pruned(graph, 0, GroupScore::kMean), test);
  EXPECT_TRUE(at::equal(before.argmax(1), after.argmax(1)));
  Comparison comparison;
  comparison.add("sorted", after, before);
  comparison.print("sorted against plain");
  EXPECT_EQ(comparison.wrong, 0);
}

TEST_P(PruningOf, RealWeightsSurvivesItsFile) {
  const Graph graph = pruned(load(GetParam()), 0.1, GroupScore::kMean);
  const Graph read = parse_model(serialize_model(graph, {}), "pruned.pth", "", "");
  const Dataset test = images(Split::kTest).first(64);
  EXPECT_TRUE(same_bits(all_logits(read, test), all_logits(graph, test)));
}

INSTANTIATE_TEST_SUITE_P(Models, PruningOf, models(), model_name);

}  // namespace
}  // namespace sentinel::parity
