/// Writes toy_outcomes.bin: what every fault does to a tiny CNN, the ground truth of
/// unit/stats_coverage_test.cpp (format: golden/toy_outcomes.hpp). Usage: make_toy_outcomes FILE

#include <algorithm>
#include <cstdio>
#include <vector>

#include "golden/toy_outcomes.hpp"
#include "sentinel/fault/trial_engine.hpp"
#include "unit/fault_nets.hpp"

namespace sentinel::test {
namespace {

constexpr std::uint64_t kSeed = 4;
constexpr std::int64_t kImages = 32;

Graph toy_net() {
  Builder b(kSeed, {1, {8, 8}});
  NodeId x = b.graph.add("conv1", b.conv(1, 3, 3, 2, true), {0});
  x = b.graph.add("relu1", Activation{}, {x});
  x = b.graph.add("conv2", b.conv(3, 4, 3, 2, true), {x});
  x = b.graph.add("relu2", Activation{}, {x});
  x = b.graph.add("flatten", Flatten{}, {x});
  b.linear("fc", x, 4 * 2 * 2, 4);
  return std::move(b.graph);
}

/// Every ReLU bounded by its largest fault-free output.
Graph protect(const Graph& graph, const at::Tensor& images) {
  Graph result = graph.clone();
  Trace trace(static_cast<std::size_t>(graph.size()));
  trace[0] = images;
  run(graph, trace);
  for (NodeId id = 0; id < graph.size(); ++id)
    if (std::holds_alternative<Activation>(graph[id].op))
      result[id].op =
          BoundedActivation{trace[static_cast<std::size_t>(id)].max().clone(), Clipping::kRanger};
  return result;
}

/// Labels are what the network says, but for every eighth image.
Batch toy_images(const Graph& graph) {
  Rng rng({kSeed, 0, 0, Purpose::kSynthetic});
  Batch batch;
  batch.images = random_tensor(rng, {kImages, 1, 8, 8});
  Trace trace(static_cast<std::size_t>(graph.size()));
  trace[0] = batch.images;
  run(graph, trace);
  batch.labels = predictions_of(trace.back()).clone();
  for (std::int64_t i = 0; i < kImages; i += 8)
    batch.labels[i] = (batch.labels[i].item<std::int64_t>() + 1) % 4;
  return batch;
}

bool is_zero(const Graph& graph, const FaultSpace& space, const FaultSite& site) {
  return (Memory(graph).read(space, {site}).records.at(0).before >> site.bit & 1) == 0;
}

/// kCritical times bit 30 where it is 0, then other bits; tensors in turns.
Faults chosen_sites(const Graph& graph, const FaultSpace& space) {
  constexpr std::uint8_t kOthers[kSubsetBits - kCritical] = {31, 31, 29, 28, 27,
                                                             26, 26, 25, 24, 22};
  Rng rng({kSeed, 0, 0, Purpose::kFaults});
  Faults sites;
  while (sites.size() < kSubsetBits) {
    const auto tensor = static_cast<std::uint32_t>(sites.size() % space.tensors().size());
    const bool critical = sites.size() < kCritical;
    const std::uint8_t bit = critical ? std::uint8_t{30} : kOthers[sites.size() - kCritical];
    const FaultSite site{tensor, rng.below(space.tensors()[tensor].elements), bit};
    bool fresh = !critical || is_zero(graph, space, site);
    for (const FaultSite& other : sites) fresh = fresh && !(other == site);
    if (fresh) sites.push_back(site);
  }
  return sites;
}

std::vector<FlipOutcome> all_flips(TrialEngine& engine) {
  std::vector<FlipOutcome> flips;
  for (std::uint64_t i = 0; i < engine.space().sites(); ++i) {
    const FaultSite site = engine.space().at(i);
    const TrialResult result = engine.run_reference({site}).result;
    flips.push_back({site.bit, static_cast<std::uint8_t>(site.tensor),
                     static_cast<std::uint8_t>(result.sdc_critical + result.due)});
  }
  return flips;
}

std::vector<std::uint8_t> all_subsets(TrialEngine& engine, const Faults& sites) {
  std::vector<std::uint8_t> correct;
  for (std::uint32_t subset = 0; subset < kSubsets; ++subset) {
    Faults faults;
    for (std::size_t i = 0; i < sites.size(); ++i)
      if (subset >> i & 1) faults.push_back(sites[i]);
    std::sort(faults.begin(), faults.end());
    correct.push_back(static_cast<std::uint8_t>(engine.run_reference(faults).result.correct));
  }
  return correct;
}

ToyOutcomes toy_outcomes() {
  const Graph graph = toy_net();
  const Batch images = toy_images(graph);
  TrialEngine engine(graph.clone(), images, {});
  TrialEngine bounded(protect(graph, images.images), images, {});
  ToyOutcomes outcomes;
  outcomes.images = kImages;
  outcomes.flips = all_flips(engine);
  const Faults sites = chosen_sites(graph, engine.space());
  outcomes.correct = all_subsets(engine, sites);
  outcomes.correct_protected = all_subsets(bounded, sites);
  return outcomes;
}

}  // namespace
}  // namespace sentinel::test

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: make_toy_outcomes FILE\n");
    return 64;
  }
  sentinel::test::write(sentinel::test::toy_outcomes(), argv[1]);
  return 0;
}
