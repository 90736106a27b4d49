// Exported networks in the PyTorch of this machine.
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <cstring>
#include <set>
#include <sstream>

#include "parity/support.hpp"
#include "sentinel/graph/profile.hpp"
#include "sentinel/graph/run.hpp"
#include "sentinel/models/model.hpp"
#include "sentinel/models/script.hpp"
#include "sentinel/transform/harden.hpp"

namespace sentinel::parity {
namespace {

constexpr double kTolerance = 1e-5;  // of max|z|: another PyTorch may fuse operators, which rounds

struct Fault {
  std::string layer;
  std::int64_t element;  // of its weight
  std::uint32_t word;    // stored there
};

Graph with(const Graph& graph, const std::vector<Fault>& faults) {
  Graph faulty = graph.clone();
  for (const Fault& fault : faults) {
    const Conv& conv = *as_conv(faulty[faulty.find(fault.layer)].op);
    std::memcpy(conv.weight.data_ptr<float>() + fault.element, &fault.word, sizeof fault.word);
  }
  return faulty;
}

std::set<std::string> lines_of(const std::string& text) {
  std::set<std::string> lines;
  std::istringstream rest(text);
  for (std::string line; std::getline(rest, line);) lines.insert(line);
  return lines;
}

class Script : public RealData {
 protected:
  void SetUp() override {
    RealData::SetUp();
    if (IsSkipped()) return;
    if (!have_pytorch()) GTEST_SKIP() << "/usr/bin/python3 has no torch";
    images_ = images(Split::kTest).batch(0, 64, {}).images;
    write_file_atomic(folder_ / "images.bin", images_.data_ptr(), images_.nbytes());
  }

  /// Logits by PyTorch; its names are those of our state_dict.
  at::Tensor theirs(const Graph& graph, const std::vector<Fault>& faults) {
    export_script(graph, folder_ / "net.ts");
    std::vector<std::string> arguments = {folder_ / "net.ts", folder_ / "images.bin",
                                          folder_ / "logits.bin"};
    for (const Fault& fault : faults) {
      arguments.push_back(
          fmt::format("{}.weight:{}:{:08x}", fault.layer, fault.element, fault.word));
    }
    std::set<std::string> names;
    for (const auto& entry : state_dict(graph)) names.insert(entry.first);
    EXPECT_EQ(lines_of(run_script(folder_, "run_module.py", arguments)), names);
    return read_floats(folder_ / "logits.bin", {images_.size(0), class_count(graph)});
  }

  /// The network with these faults; PyTorch gets it without them and stores them itself.
  void expect_same(const std::string& name, const Graph& graph,
                   const std::vector<Fault>& faults = {}) {
    const at::NoGradGuard no_grad;
    const at::Tensor other = theirs(graph, faults), ours = logits(with(graph, faults), images_);
    Comparison comparison;
    comparison.add(name, ours, other);
    comparison.print(name + (same_bits(ours, other) ? ", bit for bit" : ""));
    EXPECT_LE(comparison.relative, kTolerance);
    EXPECT_EQ(comparison.wrong, 0);
    EXPECT_EQ(comparison.due, 0);
  }

  Graph hardened(const Graph& graph) const {
    HardeningPlan plan;
    plan.weight_bounds = WeightBoundsPer::kLayer;
    return harden(graph, importance_method("l2-norm")->score({graph}), plan,
                  images(Split::kTrain).first(256), Comm::local(), at::kCPU);
  }

  TemporaryFolder folder_;
  at::Tensor images_;
};

TEST_F(Script, PlainPyTorchRunsResNet20AndVgg11) {
  expect_same("resnet20", load("resnet20"));
  expect_same("vgg11_bn", load("vgg11_bn"));
}

TEST_F(Script, PlainPyTorchRunsAPrunedNetwork) {
  expect_same("pruned resnet20", load("resnet20", "seed_resnet20_pruned_0.1.pth"));
}

TEST_F(Script, PlainPyTorchRunsTheSeedToolsHardenedNetwork) {
  expect_same("hardened by the seed tool", load("resnet20", "seed_resnet20_hardened_0.1.pth"));
}

TEST_F(Script, ProtectionWorksInPlainPyTorch) {
  const Graph graph = hardened(load("resnet20"));
  expect_same("hardened with weight bounds", graph);
  expect_same("hardened with weight bounds, three faults", graph,
              {{"conv1", 3, 0x7f000000},              // the largest exponent
               {"layer1.0.conv1", 2304, 0x7fc00000},  // NaN, in a copy
               {"layer2.0.conv2", 99, 0x7f800000}});  // Inf
}

}  // namespace
}  // namespace sentinel::parity
