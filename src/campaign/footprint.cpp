#include "campaign/footprint.hpp"

#include <algorithm>

#include "campaign/cache_budget.hpp"
#include "campaign/chunks.hpp"
#include "campaign/trial_runner.hpp"
#include "sentinel/graph/fused.hpp"
#include "sentinel/graph/profile.hpp"
#include "sentinel/networks/network.hpp"

namespace sentinel {
namespace {

// Bytes of a result file, by results of ResNet-20 and VGG-11: HDF5's own and what each network
// adds, then per row, compressed.
constexpr std::uint64_t kResult = 66'000, kResultPerNetwork = 25'000, kResultOfStrata = 10'000;
constexpr double kResultRow = 13, kResultFault = 11;
// A journal has, exactly, packed rows with the number of their faults, and packed faults.
constexpr double kJournalRow = 104, kJournalFault = 37;
/// Copies of a network that the engine makes beside the one that is loaded.
constexpr std::uint64_t kReferenceCopies = 1, kFastCopies = 2;  // with an overlay of all of it
// Bytes in memory of a fault while its trial is run, and of one that is stored until its chunk is.
constexpr double kHeldFault = 100, kKeptFault = 100;

/// Fault-free values of one image that the fast engine keeps where the budget allows all.
std::uint64_t kept_bytes(const Graph& graph) {
  const FusedNet net(graph);
  const auto shapes = output_shapes(graph);
  std::uint64_t values = 0;
  for (NodeId id = 1; id < graph.size(); ++id) {
    if (!net.is_value(id) || may_be_view(graph[id].op)) continue;
    std::uint64_t size = 1;
    for (const std::int64_t n : shapes[static_cast<std::size_t>(id)])
      size *= static_cast<std::uint64_t>(n);
    values += size;
  }
  return values * sizeof(float);
}

}  // namespace

void describe_footprint(DryRun& run, const Comm& comm, const Job& job, const Built& built,
                        at::Device device) {
  const auto images = static_cast<std::uint64_t>(run.images);
  const std::uint64_t batch = images * built.images.batch(0, 1, {}).images.nbytes();
  const bool fast = job.engine == EnginePath::kFast;
  run.image_bytes = run.images_per_trial < run.images ? 2 * batch : batch;  // and once in blocks
  run.result_bytes = kResult;
  std::vector<std::uint64_t> values;  // of an image, by network
  for (const NamedModel& model : built.models) {
    const auto network = static_cast<std::uint64_t>(model_cost(model.graph).memory_bytes);
    run.network_bytes += (kReferenceCopies + (fast ? kFastCopies : 0)) * network;
    if (fast) values.push_back(kept_bytes(model.graph));
    if (fast) run.image_bytes += batch;
    // Logits and predictions without faults.
    const auto classes = static_cast<std::uint64_t>(class_count(model.graph));
    run.result_bytes += kResultPerNetwork + images * (classes + 1) * sizeof(float);
  }
  const std::uint64_t budget = cache_budget(comm, job, device);
  for (const std::uint64_t own : values) run.cache_bytes += images * own;
  if (run.cache_bytes > budget) {
    run.cache_bytes = budget;
    // Faults in outputs need all values of a block.
    const auto block = std::min(images, static_cast<std::uint64_t>(job.block));
    if (selects_outputs(selection_of(job.faults)))
      run.cache_bytes += block * *std::max_element(values.begin(), values.end());
  }
  if (job.precision.stops() || job.sampling != Sampling::kSimple)
    run.result_bytes += kResultOfStrata;
}

void describe_fault_bytes(DryRun::Point& told, const CampaignPoint& point, const FaultsJob& job,
                          const Built& built, std::int64_t images) {
  const Selection selection = selection_of(job);
  const auto most = static_cast<double>(most_stored_faults(job));
  // The largest chunk, as ChunkPlanner shares out what is left.
  const auto chunk =
      static_cast<double>(std::min(trials_of_chunk(told.seconds), told.trials / 4 + 1));
  double held = 0, kept = 0;
  for (const NamedModel& model : built.models) {
    const double faults = faults_of_trial(point, FaultSpace(model.graph, selection), images);
    const double stored = faults > most ? 0 : faults;
    told.result_bytes += kResultRow + kResultFault * stored;
    told.journal_bytes += kJournalRow + kJournalFault * stored;
    held = std::max(held, faults * std::min(chunk, static_cast<double>(trials_together(faults))));
    kept += chunk * stored;
  }
  if (told.trials > 0) told.fault_bytes = kHeldFault * held + kKeptFault * kept;
}

}  // namespace sentinel
