// Every family of networks, state_dicts of torchvision and pytorch-cifar-models, and TorchScript
// files: through all that is done with a network, at small sizes of images.
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <torch/script.h>

#include "parity/support.hpp"
#include "sentinel/fault/sampler.hpp"
#include "sentinel/fault/trial_engine.hpp"
#include "sentinel/graph/run.hpp"
#include "sentinel/models/model.hpp"
#include "sentinel/models/script.hpp"
#include "sentinel/transform/harden.hpp"
#include "sentinel/transform/importance.hpp"
#include "sentinel/transform/prune.hpp"
#include "unit/tolerances.hpp"

namespace sentinel::parity {
namespace {

constexpr double kTolerance = test::kFloats;  // of max|z|
constexpr std::int64_t kImages = 2, kClasses = 10;

struct Net {
  std::string name;
  std::int64_t size;
};

// One of each kind; the others of a builder differ in numbers, which models_zoo_test checks.
const std::vector<Net> kNets{{"mobilenetv2_x0_5", 32}, {"shufflenetv2_x0_5", 32},
                             {"repvgg_a0", 32},        {"resnext50_32x4d", 64},
                             {"squeezenet1_1", 64},    {"googlenet", 64},
                             {"densenet121", 64},      {"mnasnet1_0", 64},
                             {"efficientnet_b0", 64},  {"regnet_y_400mf", 64}};

// Of more kinds than there are builders for.
const std::vector<Net> kTraced{{"odd", 32},
                               {"effects", 32},
                               {"resnet18", 64},
                               {"squeezenet1_0", 64},
                               {"googlenet", 64},
                               {"inception_v3", 96},
                               {"densenet121", 64},
                               {"mobilenet_v3_small", 64},
                               {"shufflenet_v2_x0_5", 64},
                               {"efficientnet_b0", 64},
                               {"regnet_x_400mf", 64},
                               {"mnasnet0_5", 64}};
const std::vector<Net> kScripted{
    {"scripted_odd", 32},          {"scripted_resnet18", 64},
    {"scripted_googlenet", 64},    {"scripted_densenet121", 64},
    {"scripted_mobilenet_v2", 64}, {"scripted_shufflenet_v2_x0_5", 64}};

double deviation(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).abs().amax(1) / b.abs().amax(1)).max().item<double>();
}

at::Tensor exported_logits(const TemporaryFolder& folder, const Graph& graph,
                           const at::Tensor& images) {
  export_script(graph, folder / "net.ts");
  return torch::jit::load(folder / "net.ts").forward({images}).toTensor();
}

DatasetInfo images_of(std::int64_t size) {
  DatasetInfo info = dataset_info("synthetic");
  info.shape = {3, size, size};
  return info;
}

Dataset calibration(std::int64_t size) {
  constexpr std::int64_t kCount = 4;
  std::vector<std::uint8_t> pixels(static_cast<std::size_t>(kCount * 3 * size * size));
  for (std::size_t i = 0; i < pixels.size(); ++i)
    pixels[i] = static_cast<std::uint8_t>(i * 2654435761U >> 13);
  return Dataset(images_of(size), std::move(pixels), std::vector<std::int64_t>(kCount, 0));
}

/// Faults everywhere, by both paths of the engine.
void expect_same_trials(const Net& net, const Graph& graph, const at::Tensor& images) {
  EngineOptions options;
  TrialEngine engine(graph.clone(), {images, at::zeros({kImages}, at::kLong)}, options);
  constexpr std::uint64_t kTrials = 20;
  for (std::uint64_t trial = 0; trial < kTrials; ++trial) {
    const auto count = trial % 2 == 0 ? 1U : 3U;
    const Faults faults = draw(ExactFaults{count}, engine.space(), {5, 0, trial});
    Comparison comparison;
    comparison.add(net.name, engine.logits(faults).logits, engine.logits_reference(faults).logits);
    EXPECT_LE(comparison.relative, 1e-3) << net.name << " trial " << trial;
    EXPECT_EQ(comparison.wrong, 0) << net.name << " trial " << trial;
  }
}

at::Tensor images_of(const Net& net, const TemporaryFolder& folder) {
  return read_floats(folder / (net.name + ".images"), {kImages, 3, net.size, net.size});
}

Graph again(const Graph& graph) {
  return parse_model(serialize_model(graph, {}), "again", "", "");
}

/// Returns the pruned network.
Graph sweep(const Net& net, const Graph& graph, const TemporaryFolder& folder) {
  const at::Tensor images = images_of(net, folder);
  const at::Tensor theirs = read_floats(folder / (net.name + ".logits"), {kImages, kClasses});
  const at::Tensor ours = logits(graph, images);
  EXPECT_LE(deviation(ours, theirs), kTolerance);
  EXPECT_LE(deviation(exported_logits(folder, graph, images), theirs), kTolerance);

  const ChannelScores scores = importance_method("l2-norm")->score({graph});
  EXPECT_LE(deviation(logits(sort_channels(graph, scores), images), ours), kTolerance);
  PruningPlan pruning;
  pruning.ratio = 0.25;
  Graph pruned = prune(graph, scores, pruning);
  const at::Tensor fewer = logits(pruned, images);
  EXPECT_LE(deviation(exported_logits(folder, pruned, images), fewer), kTolerance);
  EXPECT_TRUE(same_bits(logits(again(pruned), images), fewer));

  HardeningPlan hardening;
  hardening.restricted = false;
  const Graph hardened =
      harden(graph, scores, hardening, calibration(net.size), Comm::local(), at::kCPU);
  EXPECT_LE(deviation(logits(hardened, images), ours), kTolerance);
  hardening.restricted = true;
  const Graph restricted =
      harden(graph, scores, hardening, calibration(net.size), Comm::local(), at::kCPU);
  const at::Tensor bounded = logits(restricted, images);
  EXPECT_LE(deviation(exported_logits(folder, restricted, images), bounded), kTolerance);
  EXPECT_TRUE(same_bits(logits(again(restricted), images), bounded));
  expect_same_trials(net, graph, images);
  expect_same_trials(net, restricted, images);
  return pruned;
}

/// Files made by PyTorch for each of the networks.
void make(const TemporaryFolder& folder, const std::string& script, const std::vector<Net>& nets) {
  std::vector<std::string> arguments{folder.path()};
  for (const Net& net : nets) arguments.push_back(fmt::format("{}:{}", net.name, net.size));
  ASSERT_EQ(run_script(folder, script, arguments), "");
}

void sweep_builders(const std::vector<Net>& nets) {
  const at::NoGradGuard no_grad;
  const TemporaryFolder folder;
  make(folder, "make_zoo.py", nets);
  for (const Net& net : nets) {
    SCOPED_TRACE(net.name);
    const std::string path = folder / (net.name + ".pth");
    const Graph graph = build_model(net.name, kClasses, read_pth(path).tensors, path);
    const Graph pruned = sweep(net, graph, folder);
    // Without a record, by the widths of its tensors.
    const Graph widths = build_model(net.name, kClasses, state_dict(pruned), "pruned");
    const at::Tensor images = images_of(net, folder);
    EXPECT_TRUE(same_bits(logits(widths, images), logits(pruned, images)));
  }
}

TEST(Zoo, EveryFamilyIsLoadedSortedPrunedHardenedExportedAndInjected) {
  if (!have_pytorch()) GTEST_SKIP() << "/usr/bin/python3 has no torch";
  sweep_builders(kNets);
}

/// One by one: the large ones take gigabytes of temporary files.
TEST(Zoo, DISABLED_EveryBuilder) {
  for (const std::string& name : model_names()) {
    const bool small = std::get<Input>(initial_model(name, kClasses, 1)[0].op).size[0] == 32;
    std::cout << name << std::endl;
    sweep_builders({{name, small ? 32 : 64}});
  }
}

Graph imported(const Net& net, const TemporaryFolder& folder) {
  const std::string path = folder / (net.name + ".ts");
  return import_script(read_file(path), path, images_of(net.size));
}

TEST(Zoo, TracedNetworksAreSortedPrunedHardenedExportedAndInjected) {
  if (!have_pytorch()) GTEST_SKIP() << "/usr/bin/python3 has no torch";
  const at::NoGradGuard no_grad;
  const TemporaryFolder folder;
  make(folder, "make_traced.py", kTraced);
  for (const Net& net : kTraced) {
    SCOPED_TRACE(net.name);
    sweep(net, imported(net, folder), folder);
  }
}

TEST(Zoo, ScriptedNetworksGiveTheLogitsOfPyTorch) {
  if (!have_pytorch()) GTEST_SKIP() << "/usr/bin/python3 has no torch";
  const at::NoGradGuard no_grad;
  const TemporaryFolder folder;
  make(folder, "make_traced.py", kScripted);
  for (const Net& net : kScripted) {
    SCOPED_TRACE(net.name);
    const at::Tensor theirs = read_floats(folder / (net.name + ".logits"), {kImages, kClasses});
    EXPECT_LE(deviation(logits(imported(net, folder), images_of(net, folder)), theirs), kTolerance);
  }
}

}  // namespace
}  // namespace sentinel::parity
