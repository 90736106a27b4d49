#include <gtest/gtest.h>

#include <algorithm>

#include "sentinel/fault/audit.hpp"
#include "sentinel/fault/sampler.hpp"
#include "unit/fault_nets.hpp"

namespace sentinel {
namespace {

constexpr std::int64_t kImages = 24;

/// The fast engine on a GPU against the reference path on the CPU.
class CudaEngine : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (!at::hasCUDA()) GTEST_SKIP() << "no GPU, or a LibTorch without CUDA";
  }
  static Graph net() {
    if (GetParam() == std::string("plain")) return test::plain_net();
    if (GetParam() == std::string("residual")) return test::residual_net();
    return test::hardened(test::residual_net(), test::random_images(kImages).images);
  }
  static TrialEngine engine(at::Device device, TensorClass target = TensorClass::kWeight,
                            Graph graph = net()) {
    EngineOptions options;
    options.block = 9;
    options.device = device;
    options.trials_at_once = device.is_cuda() ? 8 : 0;
    options.selection.targets = {target};
    return {std::move(graph), test::random_images(kImages), options};
  }
  static std::vector<TrialInput> trials(const FaultSpace& space) {
    std::vector<TrialInput> all = {{}};
    for (std::uint64_t trial = 0; trial < 40; ++trial) {
      all.push_back({draw(ExactFaults{1}, space, {3, 0, trial}), kNoGroup});
      all.push_back({draw(BinomialFaults{1e-4}, space, {3, 1, trial}), kNoGroup});
    }
    for (std::uint32_t tensor = 0; tensor < space.tensors().size(); ++tensor)
      all.push_back({{{tensor, 1, 30}}, kNoGroup});
    return all;
  }
};

TEST_P(CudaEngine, EqualsTheReferencePathOfTheCpu) {
  TrialEngine gpu = engine(at::kCUDA), cpu = engine(at::kCPU);
  for (const TrialInput& trial : trials(cpu.space())) {
    const TrialLogits reference = cpu.logits_reference(trial.faults);
    EXPECT_EQ(compare(gpu.logits(trial.faults), reference).mismatches, 0u);
    EXPECT_EQ(compare(gpu.logits_reference(trial.faults), reference).mismatches, 0u);
  }
}

TEST_P(CudaEngine, EqualsTheReferencePathOfTheCpuOnEveryTarget) {
  for (const TensorClass target : {TensorClass::kBias, TensorClass::kBn, TensorClass::kBound,
                                   TensorClass::kActivation, TensorClass::kPost}) {
    TrialEngine gpu = engine(at::kCUDA, target), cpu = engine(at::kCPU, target);
    if (cpu.space().sites() == 0) continue;
    for (std::uint64_t trial = 0; trial < 20; ++trial) {
      Faults faults = draw(ExactFaults{3}, cpu.space(), {3, 2, trial});
      const bool output = target == TensorClass::kActivation || target == TensorClass::kPost;
      for (std::size_t i = 0; output && i < faults.size(); ++i)
        faults[i].image = static_cast<std::int32_t>(i * 7);
      std::sort(faults.begin(), faults.end());
      const TrialLogits reference = cpu.logits_reference(faults);
      EXPECT_EQ(compare(gpu.logits(faults), reference).mismatches, 0u) << class_name(target);
    }
  }
}

// The sign of a zero weight: absorbed by any sum.
TEST_P(CudaEngine, WhatChangesNothingIsMaskedToTheBit) {
  Graph graph = net();
  for (NodeId id = 0; id < graph.size(); ++id)
    if (const Conv* conv = as_conv(graph[id].op)) conv->weight.flatten()[0] = 0.0F;
  TrialEngine gpu = engine(at::kCUDA, TensorClass::kWeight, std::move(graph));
  for (std::uint32_t t = 0; t < gpu.space().tensors().size(); ++t)
    if (as_conv(gpu.graph()[gpu.space().tensors()[t].node].op)) {
      EXPECT_EQ(gpu.run({{t, 0, 31}}).result.masked, kImages) << t;
    }
}

TEST_P(CudaEngine, BatchMatesChangeNoOutcome) {
  TrialEngine gpu = engine(at::kCUDA);
  const std::vector<TrialInput> all = trials(gpu.space());
  const std::vector<TrialOutcome> together = gpu.run_batch(all);
  for (std::size_t t = 0; t < all.size(); ++t)
    EXPECT_TRUE(test::same_result(together[t].result, gpu.run(all[t].faults).result)) << t;
}

INSTANTIATE_TEST_SUITE_P(Nets, CudaEngine, ::testing::Values("plain", "residual", "hardened"),
                         [](const auto& net) { return std::string(net.param); });

}  // namespace
}  // namespace sentinel
