// Networks that the PyTorch of this machine makes, saves and runs; needs no test data.
#include <ATen/core/grad_mode.h>

#include "parity/support.hpp"
#include "sentinel/graph/run.hpp"
#include "sentinel/models/model.hpp"
#include "unit/tolerances.hpp"

namespace sentinel::parity {
namespace {

constexpr double kTolerance = test::kFloats;  // of max|z| of the image

class RoundTrip : public testing::TestWithParam<std::string> {};

TEST_P(RoundTrip, RandomNetworkOfPyTorchGivesItsLogits) {
  if (!have_pytorch()) GTEST_SKIP() << "/usr/bin/python3 has no torch";
  const TemporaryFolder folder;
  ASSERT_EQ(run_script(folder, "make_checkpoint.py", {GetParam(), folder.path()}), "");
  const at::Tensor images = read_floats(folder / "images.bin", {16, 3, 32, 32});
  const at::Tensor theirs = read_floats(folder / "logits.bin", {16, 10});
  const at::NoGradGuard no_grad;
  for (const std::string file : {"net.pth", "net.legacy.pth"}) {
    const Graph graph = parse_model(read_file(folder / file), file, GetParam(), "cifar10");
    Comparison comparison;
    comparison.add(file, logits(graph, images), theirs);
    comparison.print("random " + GetParam() + ", " + file);
    EXPECT_LE(comparison.relative, kTolerance);
    EXPECT_EQ(comparison.wrong, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, RoundTrip, models(), model_name);

}  // namespace
}  // namespace sentinel::parity
