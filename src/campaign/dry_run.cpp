#include "sentinel/campaign/dry_run.hpp"

#include <algorithm>

#include "campaign/describe.hpp"
#include "campaign/memory.hpp"
#include "campaign/sampling.hpp"
#include "sentinel/campaign/latency.hpp"
#include "sentinel/campaign/normalise.hpp"
#include "sentinel/campaign/setup.hpp"
#include "sentinel/fault/trial_cost.hpp"
#include "sentinel/graph/profile.hpp"

namespace sentinel {
namespace {

constexpr std::int64_t kTimedImages = 32;
constexpr int kWarmup = 1, kRuns = 5;

DryRun::Point describe_point(const Job& job, const CampaignPoint& point, const Graph& graph,
                             const FaultSpace& space, const TrialCost& cost) {
  DryRun::Point own;
  own.fault_model = sampler_name(point.sampler);
  own.ber = sampler_ber(point.sampler);
  own.estimand = estimand_of(point.sampler);
  own.trials = point.trials - point.first;
  if (job.engine == "fast") {
    own.relative_cost = cost.expected(point.sampler);
    own.audit_rate = job.audit.value_or(default_audit_rate(own.relative_cost));
  }
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
  const Batch one = images.batch(0, 1, {});
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
  require_fault_free(comm, model, images, "test images");
  DryRun run;
  comm.from_root([&] {
    const FaultSpace space(model.graph);
    const ModelCost cost = model_cost(model.graph);
    const std::vector<CampaignPoint> points = points_of(job);
    check_designs(points, model.graph);
    run.network = model.name;
    run.normalisation = normalisation_of(model.graph, images);
    run.stored_types = model.notes.stored_types;
    run.bits = space.bits();
    run.images = images.size();
    run.images_per_trial =
        job.images_per_trial > 0 ? std::min(job.images_per_trial, images.size()) : images.size();
    const TrialCost trial_cost(model.graph, space);
    for (const FaultTensor& tensor : space.tensors())
      run.layers.push_back({tensor.name,
                            tensor.elements * static_cast<std::uint64_t>(word_bits(tensor.codec)),
                            cost.layers[static_cast<std::size_t>(tensor.node)].macs,
                            trial_cost.one_channel(run.layers.size()),
                            {}});
    for (const CampaignPoint& point : points) {
      run.points.push_back(describe_point(job, point, model.graph, space, trial_cost));
      const std::vector<double> expected = expected_faults(point.sampler, space);
      for (std::size_t t = 0; t < expected.size(); ++t) run.layers[t].faults.push_back(expected[t]);
    }
    describe_memory(run, comm, job, model.graph, cost, images);
    Graph timed = model.graph.clone();
    timed.to(device, at::MemoryFormat::ChannelsLast);
    const std::int64_t batch = std::min(kTimedImages, images.size());
    const at::Tensor pixels = images.batch(0, batch, model.graph.normalisation)
                                  .images.to(device)
                                  .contiguous(at::MemoryFormat::ChannelsLast);
    const Latency latency = measure_latency({&timed}, pixels, kWarmup, kRuns, 0).front();
    run.seconds_per_image = 1e-3 * quartiles(latency.runs).median / static_cast<double>(batch);
    return Bytes();
  });
  return run;
}

}  // namespace sentinel
