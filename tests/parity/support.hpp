#pragma once
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "parity/reference_file.hpp"
#include "sentinel/graph/graph.hpp"
#include "sentinel/io/dataset.hpp"
#include "unit/io_support.hpp"

namespace sentinel::parity {

using test::have_pytorch;
using test::TemporaryFolder;
using test::test_data;

/// Skipped, saying so, where the real images and weights are absent. The parameter, where there is
/// one, names the model.
class RealData : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (test_data("reference").empty())
      GTEST_SKIP() << "no test data in " << SENTINEL_TEST_DATA_DEFAULT
                   << "; point SENTINELNN_TEST_DATA at it";
  }
};

/// The models with a reference, and what the cases of each are called.
inline auto models() {
  return testing::Values("resnet20", "vgg11_bn");
}
inline std::string model_name(const testing::TestParamInfo<std::string>& model) {
  return model.param;
}

/// models/cifar10_resnet20.pth or another file there, as `architecture`.
Graph load(const std::string& architecture, const std::string& file);
inline Graph load(const std::string& architecture) {
  return load(architecture, "cifar10_" + architecture + ".pth");
}
ReferenceFile reference(const std::string& architecture);
Dataset images(Split split);

/// Logits of a data set, 128 images at a time, as the reference computed them.
at::Tensor all_logits(const Graph& graph, const Dataset& dataset);

/// Our logits against somebody else's. A prediction may differ only where the two largest logits of
/// the other side are closer than 1e-4 of the image's max|z|: then rounding decides.
struct Comparison {
  double relative = 0;  // largest |difference| of logits, in max|z| of the image
  double absolute = 0;  // the same as it is
  std::int64_t images = 0, due = 0, near_ties = 0;
  std::int64_t other_infinities = 0;  // DUE images where not the same logits are finite
  std::int64_t wrong = 0;             // predictions that differ otherwise
  /// Adds images [N, classes]; prints those whose predictions differ (the first 20 wrong ones).
  void add(const std::string& name, const at::Tensor& ours, const at::Tensor& theirs);
  /// One line, printed, so that the test log shows how close it is.
  void print(const std::string& what) const;
};

/// Bitwise.
bool same_bits(const at::Tensor& a, const at::Tensor& b);

/// A file of nothing but f32 numbers.
at::Tensor read_floats(const std::string& path, at::IntArrayRef shape);

/// Runs a script of this folder with /usr/bin/python3; what it prints, or "exit N: …".
std::string run_script(const TemporaryFolder& folder, const std::string& script,
                       const std::vector<std::string>& arguments);

}  // namespace sentinel::parity
