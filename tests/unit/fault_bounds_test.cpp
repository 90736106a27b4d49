// Restricted activations on every path, with faults in bounds, weights and outputs.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "sentinel/fault/audit.hpp"
#include "sentinel/fault/sampler.hpp"
#include "sentinel/fault/trial_engine.hpp"
#include "sentinel/graph/rules.hpp"
#include "unit/fault_nets.hpp"

namespace sentinel {
namespace {

constexpr std::uint64_t kSeed = 31;
constexpr std::int64_t kImages = 8;

struct Restriction {
  Clipping clipping;
  BoundsPer per;
  ActivationKind kind;
};

std::vector<Restriction> restrictions() {
  std::vector<Restriction> all;
  for (const auto& [clipping, name] : rules::kClippings)
    for (const BoundsPer per : {BoundsPer::kLayer, BoundsPer::kChannel, BoundsPer::kNeuron})
      for (const ActivationKind kind :
           {ActivationKind::kRelu, ActivationKind::kRelu6, ActivationKind::kSilu,
            ActivationKind::kSigmoid, ActivationKind::kHardswish, ActivationKind::kHardsigmoid})
        if (rules::can_restrict(clipping, kind)) all.push_back({clipping, per, kind});
  return all;
}

at::Tensor bound_of(const at::Tensor& output, BoundsPer per) {
  const at::Tensor highest = output.amax(0);
  if (per == BoundsPer::kNeuron) return highest.contiguous();
  return per == BoundsPer::kLayer ? highest.max() : highest.flatten(1).amax(1);
}

/// A residual network with copies, all of its activations restricted to what the images give.
Graph restricted(const Restriction& by) {
  Graph graph = test::residual_net();
  for (NodeId id = 0; id < graph.size(); ++id)
    if (auto* own = std::get_if<Activation>(&graph[id].op)) own->kind = by.kind;
  const at::Tensor images = test::random_images(kImages).images;
  graph = test::hardened(graph, images, false);
  Trace trace{images};
  run(graph, trace);
  for (NodeId id = 0; id < graph.size(); ++id) {
    if (!std::holds_alternative<Activation>(graph[id].op)) continue;
    const at::Tensor& output = trace[static_cast<std::size_t>(id)];
    BoundedActivation op{bound_of(output, by.per) * 1.001, by.clipping, by.kind};
    if (by.kind != ActivationKind::kRelu) op.low = -bound_of(-output, by.per) * 0.999;
    graph[id].op = op;
  }
  return graph;
}

TrialEngine engine_of(const Graph& graph, TensorClass target, std::int64_t at_once) {
  EngineOptions options;
  options.block = 5;
  options.trials_at_once = at_once;
  options.selection.targets = {target};
  return TrialEngine(graph.clone(), test::random_images(kImages), options);
}

class Restricted : public ::testing::TestWithParam<Restriction> {};

/// Of outputs every image has its own.
Faults faults_of(const FaultSpace& space, std::uint64_t trial) {
  const Sampler sampler = ExactFaults{1 + trial % 4};
  if (!space.of_outputs()) return draw(sampler, space, {kSeed, 0, trial});
  Faults all;
  for (std::int32_t image = 0; image < kImages; ++image) {
    Faults own = draw(sampler, space, {kSeed + static_cast<std::uint64_t>(image), 0, trial});
    for (FaultSite& site : own) site.image = image;
    all.insert(all.end(), own.begin(), own.end());
  }
  return all;
}

TEST_P(Restricted, EveryPathAgreesWithTheReference) {
  const Graph graph = restricted(GetParam());
  for (const TensorClass target :
       {TensorClass::kBound, TensorClass::kWeight, TensorClass::kActivation})
    for (const std::int64_t at_once : {0, 3}) {
      TrialEngine fast = engine_of(graph, target, at_once);
      std::vector<TrialInput> trials;
      for (std::uint64_t trial = 0; trial < 12; ++trial)
        trials.push_back({faults_of(fast.space(), trial)});
      const std::vector<TrialOutcome> together = fast.run_batch(trials);
      for (std::size_t t = 0; t < trials.size(); ++t) {
        const Audit both = audit(fast, trials[t].faults);
        EXPECT_EQ(both.agreement.mismatches, 0u) << class_name(target) << " trial " << t;
        EXPECT_TRUE(test::same_result(together[t].result, both.fast.result))
            << class_name(target) << " trial " << t << " at once " << at_once;
      }
    }
}

TEST_P(Restricted, EveryStoredBoundIsAWordThatFaultsHit) {
  const Graph graph = restricted(GetParam());
  TrialEngine engine = engine_of(graph, TensorClass::kBound, 0);
  std::uint64_t words = 0, corrections = 0;
  for (const Node& node : graph.nodes()) {
    if (const auto* own = std::get_if<BoundedActivation>(&node.op))
      words += static_cast<std::uint64_t>(own->bound.numel() * (own->low.defined() ? 2 : 1));
    if (const auto* conv = std::get_if<DuplicatedConv>(&node.op))
      corrections += 2 * conv->duplicated.size();
  }
  std::uint64_t elements = 0;
  for (const FaultTensor& tensor : engine.space().tensors()) elements += tensor.elements;
  EXPECT_EQ(elements, words + corrections);
}

INSTANTIATE_TEST_SUITE_P(All, Restricted, ::testing::ValuesIn(restrictions()),
                         [](const auto& named) {
                           const Restriction& by = named.param;
                           std::string name =
                               fmt::format("{}_{}_{}", rules::clipping_name(by.clipping),
                                           rules::bounds_name(by.per), activation_name(by.kind));
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace sentinel
