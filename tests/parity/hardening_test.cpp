// The recipe of the README on the real network, and its file.
#include <iostream>

#include "parity/support.hpp"
#include "sentinel/core/hash.hpp"
#include "sentinel/graph/profile.hpp"
#include "sentinel/models/model.hpp"
#include "sentinel/transform/harden.hpp"
#include "sentinel/transform/train.hpp"

namespace sentinel::parity {
namespace {

HardeningPlan plan(RowLayout selection, Correction correction) {
  HardeningPlan plan;
  plan.duplication = {0.1, selection, correction, GroupScore::kMean};
  return plan;
}

Graph hardened(const Graph& graph, const HardeningPlan& plan, std::int64_t calibration_images) {
  const ChannelScores scores = importance_method("l2-norm")->score({graph});
  return harden(graph, scores, plan, images(Split::kTrain).first(calibration_images), Comm::local(),
                at::kCPU);
}

class Hardening : public RealData {
 protected:
  void write(const Graph& graph) {
    write_file_atomic(path_, serialize_model(graph, {{}, "parity test", 1, ""}));
  }
  Graph read() const { return parse_model(read_file(path_), path_, "", ""); }

  TemporaryFolder folder_;
  std::string path_ = folder_ / "hardened.pth";
};

TEST_F(Hardening, KeepsAccuracyAtTheStatedCostAndSurvivesItsFile) {
  const Graph plain = load("resnet20");
  const Dataset test = images(Split::kTest);
  const Graph graph = hardened(plain, plan(RowLayout::kOwn, Correction::kRange), -1);
  const Accuracy accuracy = evaluate(graph, test, at::kCPU);
  EXPECT_EQ(accuracy.images, 1017);
  EXPECT_EQ(accuracy.correct, 916);
  EXPECT_EQ(model_cost(graph).parameters, 297365);
  EXPECT_EQ(model_cost(graph).macs, 44183168);

  const at::Tensor logits = all_logits(graph, test);
  Comparison against_plain;
  against_plain.add("hardened", logits, all_logits(plain, test));
  against_plain.print("hardened against plain (bounds may clip test images)");

  write(graph);
  EXPECT_TRUE(same_bits(all_logits(read(), test), logits));
}

TEST_F(Hardening, NothingChangesOnTheCalibrationImages) {
  constexpr std::int64_t kImages = 256;
  const Graph plain = load("resnet20");
  const Graph graph = hardened(plain, plan(RowLayout::kOwn, Correction::kRange), kImages);
  const Dataset calibration = images(Split::kTrain).first(kImages);
  EXPECT_TRUE(same_bits(all_logits(graph, calibration), all_logits(plain, calibration)));
}

/// "name dtype shape sha256" of each entry, as load_checkpoint.py prints it.
std::string listing(const StateDict& tensors) {
  std::string text;
  for (const auto& [name, tensor] : tensors) {
    std::string shape;
    for (const std::int64_t size : tensor.sizes()) shape += std::to_string(size) + ",";
    const at::Tensor values = tensor.contiguous();
    text += name + " " + (tensor.scalar_type() == at::kLong ? "int64" : "float32") + " (" + shape +
            ") " + sha256_hex(values.data_ptr(), values.nbytes()) + "\n";
  }
  return text;
}

TEST_F(Hardening, PyTorchLoadsTheFileBitForBit) {
  if (!have_pytorch()) GTEST_SKIP() << "/usr/bin/python3 has no torch";
  const Graph plain = load("resnet20");
  const Dataset test = images(Split::kTest).first(64);
  for (const HardeningPlan& choice :
       {plan(RowLayout::kOwn, Correction::kRange), plan(RowLayout::kGroup, Correction::kMin)}) {
    const Graph graph = hardened(plain, choice, 64);
    write(graph);
    EXPECT_EQ(run_script(folder_, "load_checkpoint.py", {path_}), listing(state_dict(graph)));
    EXPECT_TRUE(same_bits(all_logits(read(), test), all_logits(graph, test)));
  }
}

TEST_F(Hardening, GroupSelectionHasTheSeedToolsNamesAndShapes) {
  const Graph graph = hardened(load("resnet20"), plan(RowLayout::kGroup, Correction::kMin), 32);
  write(graph);
  const StateDict ours = read_pth(path_).tensors;
  const StateDict seed = read_pth(test_data("models/seed_resnet20_hardened_0.1.pth")).tensors;
  ASSERT_GE(ours.size(), seed.size());
  auto entry = ours.begin();
  for (const auto& [name, tensor] : seed) {
    EXPECT_EQ(entry->first, name);
    EXPECT_EQ(entry->second.sizes(), tensor.sizes()) << name;
    ++entry;
  }
  for (; entry != ours.end(); ++entry)
    EXPECT_THAT(entry->first,
                testing::AnyOf(testing::EndsWith(".duplicated"), testing::EndsWith(".bound")));
}

}  // namespace
}  // namespace sentinel::parity
