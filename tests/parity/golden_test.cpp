// Fault-free networks: real checkpoints of PyTorch and of the seed tool on real images.
#include "parity/support.hpp"
#include "sentinel/fault/outcome.hpp"
#include "sentinel/graph/profile.hpp"
#include "sentinel/transform/train.hpp"
#include "unit/tolerances.hpp"

namespace sentinel::parity {
namespace {

// Other processors and LibTorch versions sum up to 4608 products per value in another order; the
// same ones give the same bits.
constexpr double kTolerance = test::kFloats;  // of max|z| of the image

class Golden : public RealData {};

TEST_P(Golden, LogitsOfEveryTestImage) {
  const ReferenceFile file = reference(GetParam());
  const Dataset test = images(Split::kTest);
  const at::Tensor theirs = file.tensor("golden/logits");
  ASSERT_EQ(test.size(), theirs.size(0));
  EXPECT_TRUE(at::equal(test.batch(0, test.size(), {}).labels, file.tensor("golden/labels")));
  EXPECT_TRUE(at::equal(predictions_of(theirs), file.tensor("golden/predictions")));

  Comparison comparison;
  comparison.add(GetParam() + " fault-free", all_logits(load(GetParam()), test), theirs);
  comparison.print(GetParam() + " fault-free");
  EXPECT_LE(comparison.relative, kTolerance);
  EXPECT_EQ(comparison.wrong, 0);
}

TEST_P(Golden, CorrectImagesAndParameters) {
  const ReferenceFile file = reference(GetParam());
  const Graph graph = load(GetParam());
  const Accuracy accuracy = evaluate(graph, images(Split::kTest), at::kCPU);
  EXPECT_EQ(accuracy.images, file.number("golden", "images"));
  EXPECT_EQ(accuracy.correct, file.number("golden", "correct"));
  EXPECT_EQ(model_cost(graph).parameters, file.number("golden", "parameters"));
}

INSTANTIATE_TEST_SUITE_P(Models, Golden, models(), model_name);

TEST_F(RealData, LegacyCheckpointIsTheSameNetwork) {
  const Dataset test = images(Split::kTest);
  const at::Tensor legacy = all_logits(load("resnet20", "cifar10_resnet20.legacy.pth"), test);
  EXPECT_TRUE(same_bits(legacy, all_logits(load("resnet20"), test)));
  EXPECT_EQ(classify(legacy, legacy, test.batch(0, test.size(), {}).labels).correct, 916u);
}

void expect_facts(const std::string& file, std::int64_t correct, std::int64_t parameters,
                  std::int64_t macs) {
  const Graph graph = load("resnet20", file);
  const Accuracy accuracy = evaluate(graph, images(Split::kTest), at::kCPU);
  const ModelCost cost = model_cost(graph);
  EXPECT_EQ(accuracy.images, 1017) << file;
  EXPECT_EQ(accuracy.correct, correct) << file;
  EXPECT_EQ(cost.parameters, parameters) << file;
  EXPECT_EQ(cost.macs, macs) << file;
}

TEST_F(RealData, FactsOfResnet20) {
  expect_facts("cifar10_resnet20.pth", 916, 272474, 40813184);
}

TEST_F(RealData, FactsOfTheSeedToolsPrunedNetwork) {
  expect_facts("seed_resnet20_pruned_0.1.pth", 900, 224968, 34423620);
}

TEST_F(RealData, FactsOfTheSeedToolsHardenedNetwork) {
  expect_facts("seed_resnet20_hardened_0.1.pth", 916, 297365, 44183168);
}

}  // namespace
}  // namespace sentinel::parity
