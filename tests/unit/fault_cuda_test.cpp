#include <gtest/gtest.h>

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
  static TrialEngine engine(at::Device device) {
    EngineOptions options;
    options.block = 9;
    options.device = device;
    const Batch images = test::random_images(kImages);
    if (GetParam() == std::string("plain")) return {test::plain_net(), images, options};
    if (GetParam() == std::string("residual")) return {test::residual_net(), images, options};
    return {test::hardened(test::residual_net(), images.images), images, options};
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
