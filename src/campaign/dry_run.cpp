#include "sentinel/campaign/dry_run.hpp"

#include <algorithm>
#include <cmath>

#include "campaign/describe.hpp"
#include "campaign/memory.hpp"
#include "campaign/sampling.hpp"
#include "sentinel/campaign/latency.hpp"
#include "sentinel/campaign/setup.hpp"
#include "sentinel/graph/profile.hpp"

namespace sentinel {
namespace {

constexpr std::int64_t kTimedImages = 32;
constexpr int kWarmup = 1, kRuns = 5;

/// Probability that a trial has a fault in the first tensors, which hold the share `share` of the
/// bits and `expected` faults per trial.
double hit_probability(const Sampler& sampler, double share, double expected) {
  if (const auto* exact = std::get_if<ExactFaults>(&sampler))
    return 1 - std::pow(1 - share, static_cast<double>(exact->count));
  if (const auto* binomial = std::get_if<BinomialFaults>(&sampler); binomial && binomial->ber < 1)
    return -std::expm1(-expected);
  return expected > 0 ? 1 : 0;
}

/// Share of the MACs that a trial runs: of the layers from the first faulty one on.
double relative_cost(const Sampler& sampler, const FaultSpace& space, const ModelCost& cost) {
  const std::vector<double> expected = expected_faults(sampler, space);
  double run = 0, total = 0, faults = 0;
  for (std::size_t t = 0; t < expected.size(); ++t) {
    const FaultTensor& tensor = space.tensors()[t];
    faults += expected[t];
    const double bits = static_cast<double>(tensor.first_bit) +
                        static_cast<double>(tensor.elements) * word_bits(tensor.codec);
    const auto macs = static_cast<double>(cost.layers[static_cast<std::size_t>(tensor.node)].macs);
    run += macs * hit_probability(sampler, bits / static_cast<double>(space.bits()), faults);
    total += macs;
  }
  return run / total;
}

DryRun::Point describe_point(const CampaignPoint& point, const Graph& graph,
                             const FaultSpace& space, const ModelCost& cost) {
  DryRun::Point own;
  own.fault_model = sampler_name(point.sampler);
  own.ber = sampler_ber(point.sampler);
  own.estimand = estimand_of(point.sampler);
  own.trials = point.trials - point.first;
  own.relative_cost = relative_cost(point.sampler, space, cost);
  for (const double faults : expected_faults(point.sampler, space)) own.faults += faults;
  const StratifiedSampler sampler(point.sampler, graph, space);
  const Strata& strata = sampler.strata();
  for (std::size_t h = 0; h < strata.names.size(); ++h)
    own.strata.push_back({strata.names[h], strata.weights[h], strata.costs[h]});
  return own;
}

std::uint64_t activation_bytes(const Graph& graph) {
  std::uint64_t values = 0;
  for (const std::vector<std::int64_t>& shape : output_shapes(graph)) {
    std::uint64_t size = 1;
    for (const std::int64_t n : shape) size *= static_cast<std::uint64_t>(n);
    values += size;
  }
  return values * sizeof(float);
}

void describe_memory(DryRun& run, const Comm& comm, const Job& job, const Graph& graph,
                     const ModelCost& cost, const Dataset& images) {
  const Batch one = images.batch(0, 1);
  const auto count = static_cast<std::uint64_t>(images.size());
  // Each path of the engine has its own copy of both.
  run.network_bytes = 2 * static_cast<std::uint64_t>(cost.memory_bytes);
  run.image_bytes = 2 * count * one.images.nbytes();
  run.cache_bytes = std::min(activation_bytes(graph) * count, cache_budget(comm, job));
}

}  // namespace

DryRun dry_run(const Comm& comm, const Job& job) {
  at::Device device = at::kCPU;
  comm.agree([&] { device = choose_device(comm, job.compute); });
  const NamedModel model = load_model(comm, job.selection);
  const Dataset images =
      load_dataset(comm, job.selection, model.graph.dataset, Split::kTest, job.images);
  DryRun run;
  comm.from_root([&] {
    const FaultSpace space(model.graph);
    const ModelCost cost = model_cost(model.graph);
    const std::vector<CampaignPoint> points = points_of(job);
    check_designs(points, model.graph);
    run.network = model.name;
    run.bits = space.bits();
    run.images = images.size();
    run.images_per_trial =
        job.images_per_trial > 0 ? std::min(job.images_per_trial, images.size()) : images.size();
    for (const FaultTensor& tensor : space.tensors())
      run.layers.push_back({tensor.name,
                            tensor.elements * static_cast<std::uint64_t>(word_bits(tensor.codec)),
                            cost.layers[static_cast<std::size_t>(tensor.node)].macs,
                            {}});
    for (const CampaignPoint& point : points) {
      run.points.push_back(describe_point(point, model.graph, space, cost));
      const std::vector<double> expected = expected_faults(point.sampler, space);
      for (std::size_t t = 0; t < expected.size(); ++t) run.layers[t].faults.push_back(expected[t]);
    }
    describe_memory(run, comm, job, model.graph, cost, images);
    Graph timed = model.graph.clone();
    timed.to(device, at::MemoryFormat::ChannelsLast);
    const std::int64_t batch = std::min(kTimedImages, images.size());
    const at::Tensor pixels =
        images.batch(0, batch).images.to(device).contiguous(at::MemoryFormat::ChannelsLast);
    const Latency latency = measure_latency({&timed}, pixels, kWarmup, kRuns, 0).front();
    run.seconds_per_image = 1e-3 * quartiles(latency.runs).median / static_cast<double>(batch);
    return Bytes();
  });
  return run;
}

}  // namespace sentinel
