#include "sentinel/campaign/dry_run.hpp"

#include <algorithm>
#include <cmath>
#include <map>

#include "campaign/footprint.hpp"
#include "campaign/result_info.hpp"
#include "campaign/sampling.hpp"
#include "campaign/simulation.hpp"
#include "sentinel/campaign/validation.hpp"
#include "sentinel/core/memory.hpp"
#include "sentinel/graph/profile.hpp"
#include "sentinel/networks/device.hpp"
#include "sentinel/networks/latency.hpp"
#include "sentinel/networks/load.hpp"
#include "sentinel/networks/network.hpp"
#include "sentinel/networks/normalisation.hpp"

namespace sentinel {
namespace {

constexpr std::int64_t kTimedImages = 32;
constexpr int kWarmup = 1, kRuns = 5;
/// Images that tell the accuracy: about as many as cost this.
constexpr std::int64_t kProbeMacs = 10'000'000'000;
/// Trials that are drawn for all points and populations together: about a second. Fewer of fixed
/// plans, whose intervals may look at every trial again, and which need no stop.
constexpr std::uint64_t kDrawnTrials = 1'200'000, kDrawnOfFixed = 300'000;
/// But so many for each: more than any pilot takes.
constexpr std::uint64_t kDrawnAtLeast = 4'000;

/// How much more memory rank 0, which reads the files, has had so far than the others at least; 0
/// where there are none. Collective.
std::uint64_t less_elsewhere(const Comm& comm) {
  ByteWriter own;
  own.write(peak_memory());
  std::vector<std::uint64_t> peaks;
  for (const Bytes& bytes : comm.gather(own.take()))
    peaks.push_back(ByteReader(bytes, "peak of memory").read<std::uint64_t>());
  if (peaks.size() < 2) return 0;  // also on other ranks than 0
  const std::uint64_t others = *std::max_element(peaks.begin() + 1, peaks.end());
  return peaks[0] - std::min(peaks[0], others);
}

/// Costs of a trial as TrialRunner has them: one audit rate, by the network that is cheapest to
/// run.
void describe_costs(DryRun::Point& own, const DryRun& run, const Job& job, const Sampler& sampler,
                    const std::vector<TrialCost>& costs) {
  std::vector<double> relative(costs.size(), 1);
  if (job.engine == EnginePath::kFast) {
    for (std::size_t m = 0; m < costs.size(); ++m) relative[m] = costs[m].expected(sampler);
    const double least = std::min(1.0, *std::min_element(relative.begin(), relative.end()));
    const std::int64_t at_once = run.on_gpu ? job.trials_at_once.value_or(kTrialsAtOnce) : 1;
    own.audit_rate = job.audit.value_or(default_audit_rate(least, at_once));
  }
  own.relative_cost = relative.front();
  for (std::size_t m = 0; m < relative.size(); ++m)
    own.seconds += (relative[m] + own.audit_rate * (1 + relative[m])) *
                   static_cast<double>(run.images_per_trial) * run.networks[m].seconds_per_image;
}

/// Mean number of bits that an event in the tensor hits; its word ends some of them early.
double bits_of_event(const FaultModel& model, const FaultTensor& tensor) {
  double bits = 0;
  for (const std::uint8_t bit : tensor.bits) bits += model.mean_length(tensor.word_bits - bit);
  return bits / static_cast<double>(tensor.bits.size());
}

void describe_faults(DryRun::Point& own, const CampaignPoint& point, const FaultSpace& space,
                     std::int64_t images) {
  const std::vector<double> expected = expected_of_trial(point, space, images);
  double bits = 0;
  for (std::size_t t = 0; t < expected.size(); ++t) {
    own.faults += expected[t];
    bits += expected[t] * bits_of_event(point.faults, space.tensors()[t]);
  }
  if (!point.faults.of_bits() && space.sites() > 0)
    own.bits_hit = bits / static_cast<double>(space.sites());
}

/// Half-width of an interval of so many trials, half of which fail with all their images.
double widest(std::uint64_t trials, double confidence) {
  constexpr std::uint64_t kEnough = 100'000;  // from there on it falls as the root of the number
  const std::uint64_t some = std::min(trials, kEnough);
  Moments shares;
  for (std::uint64_t i = 0; i < some; ++i) shares.add(double(i % 2));
  return korn_graubard_interval(shares, confidence).half_width() *
         std::sqrt(static_cast<double>(some) / static_cast<double>(trials));
}

/// Counts of the trials point.first ... trials - 1 of an equal plan.
std::uint64_t trials_of_stratum(const CampaignPoint& point, std::uint64_t stratum,
                                std::uint64_t strata) {
  const auto below = [&](std::uint64_t id) { return (id + strata - 1 - stratum) / strata; };
  return below(point.trials) - below(point.first);
}

/// Trials of each stratum of a divided point, and what their intervals may be.
void describe_division(DryRun::Point& own, const Job& job, const CampaignPoint& point,
                       const Strata& strata) {
  if (!point.division) return;
  own.division = sampling_word(point.sampling, point.division);
  check_enough_trials(point, strata.names.size());
  const DesignOptions options = design_options(point, 0, job.seed, strata.weights, strata.costs);
  const bool equal = point.sampling == Sampling::kEqual;
  if (!equal) own.pilot = Design(options).ready();
  std::map<std::uint64_t, double> widths;  // few numbers differ
  for (std::size_t h = 0; h < own.strata.size(); ++h) {
    const std::uint64_t trials =
        equal ? trials_of_stratum(point, h, own.strata.size()) : options.minimum;
    const auto [width, fresh] = widths.emplace(trials, 0.5);
    if (fresh && trials > 0) width->second = widest(trials, point.precision.confidence);
    own.strata[h].trials = trials;
    own.strata[h].half_width = width->second;
  }
}

DryRun::Point told_point(const DryRun& run, const Job& job, const CampaignPoint& point,
                         const Built& built, const std::vector<TrialCost>& costs,
                         const Strata& strata) {
  DryRun::Point own;
  own.fault_model = sampler_name(point.sampler);
  own.ber = sampler_ber(point.sampler);
  own.estimand = estimand_of(point.sampler);
  own.trials = point.trials - point.first;
  if (point.trials == 0) own.bound = bound_of_all(point);
  for (std::size_t m = 0; m < point.bounds.size() && !own.bound; ++m)
    if (point.bounds[m]) own.bounded.emplace_back(built.models[m].name, *point.bounds[m]);
  describe_faults(own, point, FaultSpace(built.models[0].graph, selection_of(job.faults)),
                  run.images_per_trial);
  describe_costs(own, run, job, point.sampler, costs);
  describe_fault_bytes(own, point, job.faults, built, run.images_per_trial);
  for (std::size_t h = 0; h < strata.names.size(); ++h)
    own.strata.push_back({strata.names[h], strata.weights[h], strata.costs[h], 0, 0});
  describe_division(own, job, point, strata);
  return own;
}

void describe_layers(DryRun& run, const Graph& graph, const std::vector<CampaignPoint>& points,
                     const TrialCost& trial_cost, const Selection& selection) {
  const FaultSpace space(graph, selection);
  const ModelCost cost = model_cost(graph);
  for (const FaultTensor& tensor : space.tensors())
    run.layers.push_back({tensor.name,
                          tensor.sites(),
                          cost.layers[static_cast<std::size_t>(tensor.node)].macs,
                          trial_cost.one_channel(run.layers.size()),
                          {}});
  for (const CampaignPoint& point : points) {
    const std::vector<double> expected = expected_of_trial(point, space, run.images_per_trial);
    for (std::size_t t = 0; t < expected.size(); ++t) run.layers[t].faults.push_back(expected[t]);
  }
}

/// Names, bits and time of the networks, in turns on the same images.
void describe_networks(DryRun& run, const Built& built, const Selection& selection,
                       at::Device device) {
  std::vector<Graph> timed;
  std::vector<const Graph*> pointers;
  for (const NamedModel& model : built.models) {
    timed.push_back(model.graph.clone());
    timed.back().to(device, at::MemoryFormat::ChannelsLast);
  }
  pointers.reserve(timed.size());
  for (const Graph& graph : timed) pointers.push_back(&graph);
  const std::int64_t batch = std::min(kTimedImages, built.images.size());
  const at::Tensor pixels = built.images.batch(0, batch, built.models[0].graph.normalisation)
                                .images.to(device)
                                .contiguous(at::MemoryFormat::ChannelsLast);
  const std::vector<Latency> times = measure_latency(pointers, pixels, kWarmup, kRuns, 0);
  for (std::size_t m = 0; m < times.size(); ++m) {
    const NamedModel& model = built.models[m];
    run.networks.push_back({model.name, FaultSpace(model.graph, selection).sites(),
                            1e-3 * quartiles(times[m].runs).median / static_cast<double>(batch),
                            normalisation_of(model.graph, built.images), model.notes.stored_types});
  }
}

/// The first network's, on the first images.
void measure_accuracy(DryRun& run, const Built& built, at::Device device) {
  const NamedModel& model = built.models[0];
  const std::int64_t enough = kProbeMacs / std::max<std::int64_t>(1, model_cost(model.graph).macs);
  run.accuracy_images = std::min(run.images, std::max(kTimedImages, enough));
  const Dataset some = built.images.first(run.accuracy_images);
  const Accuracy found = evaluate(model.graph, some, device);
  warn_if_guessing(source_of(model), model.graph, some, found);
  run.accuracy = static_cast<double>(found.correct) / static_cast<double>(found.images);
}

void simulate_points(DryRun& run, const Job& job, const std::vector<CampaignPoint>& points,
                     const std::vector<Strata>& strata) {
  const ImageBlocks blocks(run.images, job.images_per_trial, job.seed);
  const ResultInfo info =
      supposed_info(points, strata, run.networks.size(), blocks, run.images, run.accuracy);
  for (std::uint32_t p = 0; p < points.size(); ++p) {
    if (run.points[p].bound) continue;
    if (std::holds_alternative<ListedFaults>(points[p].sampler)) continue;  // no sample
    const Supposition all = suppose(points[p], strata[p]);
    run.points[p].supposed = all.of;
    const std::uint64_t drawn = job.precision.stops() ? kDrawnTrials : kDrawnOfFixed;
    const std::uint64_t most = std::max(drawn / (points.size() * all.populations.size()),
                                        kDrawnAtLeast * run.networks.size());
    for (const Population& population : all.populations)
      run.points[p].outlooks.push_back(simulate(info, blocks, p, points[p], population, most));
  }
}

Strata strata_of(const CampaignPoint& point, const Built& built, const Selection& selection) {
  std::vector<FaultSpace> spaces;
  for (const NamedModel& model : built.models) spaces.emplace_back(model.graph, selection);
  std::vector<SpaceOfNetwork> networks;
  for (std::size_t m = 0; m < spaces.size(); ++m)
    networks.push_back({built.models[m].graph, spaces[m]});
  if (point.division) return StratifiedSampler(*point.division, networks).strata();
  return StratifiedSampler(point.sampler, networks, point.faults).strata();
}

DryRun told_run(const Comm& comm, const Job& job, const Built& built, at::Device device) {
  DryRun run;
  run.images = built.images.size();
  run.images_per_trial =
      job.images_per_trial > 0 ? std::min(job.images_per_trial, run.images) : run.images;
  const std::vector<CampaignPoint> points = planned_points(job, built.models, built.list);
  const Graph& original = built.models[0].graph;
  const Selection selection = selection_of(job.faults);
  const std::vector<TrialCost> costs = trial_costs(built.models, selection);
  describe_networks(run, built, selection, device);
  measure_accuracy(run, built, device);
  run.program_bytes = peak_memory();
  run.on_gpu = device.is_cuda();
  describe_footprint(run, comm, job, built, device);
  if (std::all_of(points.begin(), points.end(),
                  [](const CampaignPoint& point) { return point.trials == 0; }))
    run.cache_bytes = 0;
  describe_layers(run, original, points, costs.front(), selection);
  std::vector<Strata> strata;
  for (const CampaignPoint& point : points) {
    strata.push_back(strata_of(point, built, selection));
    run.points.push_back(told_point(run, job, point, built, costs, strata.back()));
    run.fault_bytes =
        std::max(run.fault_bytes, static_cast<std::uint64_t>(run.points.back().fault_bytes));
  }
  simulate_points(run, job, points, strata);
  return run;
}

}  // namespace

DryRun dry_run(const Comm& comm, const Job& asked) {
  Job job = asked;
  at::Device device = at::kCPU;
  comm.agree([&] {
    device = choose_device(comm, job.compute);
    validate_device(job, device);
  });
  const Built built = build(comm, job, device);
  for (const NamedModel& model : built.models)
    require_fault_free(comm, model, built.images, "images");
  const std::uint64_t less = less_elsewhere(comm);
  DryRun run;
  comm.from_root([&] {
    run = told_run(comm, job, built, device);
    run.less_elsewhere = less;
    return Bytes();
  });
  return run;
}

}  // namespace sentinel
