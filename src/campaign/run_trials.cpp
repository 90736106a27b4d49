#include "campaign/run_trials.hpp"

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <optional>

#include "campaign/cache_budget.hpp"
#include "campaign/chunk_result.hpp"
#include "campaign/ledger.hpp"
#include "campaign/result_info.hpp"
#include "campaign/sampling.hpp"
#include "sentinel/comm/pool.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/core/stop.hpp"
#include "sentinel/networks/network.hpp"
#include "sentinel/networks/normalisation.hpp"

namespace sentinel {
namespace {

EngineOptions engine_options(const Comm& comm, const Job& job, const TrialPlan& plan,
                             at::Device device) {
  const bool trials = std::any_of(plan.points.begin(), plan.points.end(),
                                  [](const CampaignPoint& point) { return point.trials > 0; });
  EngineOptions options;
  options.block = job.block;
  if (device.is_cuda()) options.trials_at_once = job.trials_at_once.value_or(0);
  options.device = device;
  options.reference_only = job.engine == EnginePath::kReference;
  options.cache_budget = trials ? cache_budget(comm, job, device) : 0;
  options.selection = selection_of(job.faults);
  options.most_records = most_stored_faults(job.faults);
  return options;
}

/// floor(BER * bits) is 0 in small layers: they never fail, whatever the figures say.
void warn_of_spared_layers(const std::vector<CampaignPoint>& points, const FaultSpace& space) {
  for (const CampaignPoint& point : points) {
    const Sampler& sampler = point.sampler;
    if (sampler_ber(sampler) == 0) continue;
    std::string spared;
    const std::vector<double> expected = expected_faults(sampler, space);
    for (std::size_t t = 0; t < expected.size(); ++t)
      if (expected[t] == 0) spared += " " + space.tensors()[t].name;
    if (!spared.empty())
      spdlog::warn("{} at BER {:g} never flips a bit of:{}", sampler_name(sampler),
                   sampler_ber(sampler), spared);
  }
}

/// Warns where a range has too few trials of a stratum; others may have more.
void warn_of_short_ranges(const TrialPlan& plan, const TrialRunner& runner) {
  for (std::uint32_t p = 0; p < plan.points.size(); ++p) {
    const CampaignPoint& point = plan.points[p];
    if (!point.division || !point.whole) continue;
    const std::uint64_t trials = point.trials - point.first, strata = runner.strata(p).names.size();
    if (trials < kLeastOfEach * strata)
      spdlog::warn(
          "{} trials are fewer than {} of each of the {} strata, too few for their intervals; "
          "merge this range with others, {} trials together or more",
          trials, kLeastOfEach, strata, kLeastOfEach * strata);
  }
}

/// Another network may lack words that a list of faults names.
void warn_of_missing_words(const TrialPlan& plan, TrialRunner& runner) {
  if (plan.points.empty()) return;
  const auto* listed = std::get_if<ListedFaults>(&plan.points.front().sampler);
  if (!listed) return;
  for (std::size_t m = 1; m < plan.models.size(); ++m) {
    std::uint64_t carried = 0, all = 0;
    for (const std::uint64_t trial : listed->list->trials_with_faults()) {
      all += runner.faults(0, trial, 0).size();  // of the images that the trial looks at
      carried += runner.faults(0, trial, m).size();
    }
    if (carried < all)
      spdlog::warn(
          "{} of {} listed faults are not in the network '{}': it has lost these words, or stores "
          "them otherwise",
          all - carried, all, plan.models[m].name);
  }
}

/// Says what is assumed of the images, and warns where a network looks as if it were wrong: once
/// for all that see the images alike, as they were made from one.
void report_images(const TrialPlan& plan, const TrialRunner& runner) {
  log_normalisation(plan.models, plan.images);
  std::vector<std::optional<Normalisation>> warned;
  if (plan.warned) warned.push_back(plan.models.front().graph.normalisation);
  for (std::size_t m = 0; m < plan.models.size(); ++m) {
    const NamedModel& model = plan.models[m];
    const auto& own = model.graph.normalisation;
    if (std::find(warned.begin(), warned.end(), own) != warned.end()) continue;
    const Golden& golden = runner.engine(m).golden();
    Accuracy accuracy{plan.images.size(), golden.correct, golden.top5};
    accuracy.logits.add(golden.logits);
    if (warn_if_guessing(source_of(model), model.graph, plan.images, accuracy))
      warned.push_back(own);
  }
}

}  // namespace

TrialRunner make_runner(const Comm& comm, const Job& job, const TrialPlan& plan,
                        at::Device device) {
  TrialRunner runner(plan.models, plan.images, job.images_per_trial, plan.points, job.seed,
                     engine_options(comm, job, plan, device));
  // More faults than bits, say, is known only now; better before the result is begun.
  for (std::uint32_t point = 0; point < plan.points.size(); ++point) {
    if (plan.points[point].division)
      check_enough_trials(plan.points[point], runner.strata(point).names.size());
    for (std::size_t model = 0; model < plan.models.size(); ++model) runner.faults(point, 0, model);
  }
  return runner;
}

Bytes work_on(const Bytes& bytes, TrialRunner& runner, const Comm& comm, int threads) {
  // The pool's thread on rank 0 has a thread count of its own.
  at::set_num_threads(threads);
  const Chunk chunk = Chunk::decode(bytes);
  ChunkResult result = runner.run(chunk.point, chunk.tasks);
  for (TrialRecord& record : result.records)
    record.row.rank = static_cast<std::uint32_t>(comm.rank());
  return result.encode();
}

ExitCode run_trials(const Comm& comm, const Job& job, const TrialPlan& plan, at::Device device,
                    const std::function<void()>& begun) {
  std::optional<TrialRunner> runner;
  comm.agree([&] {
    runner.emplace(make_runner(comm, job, plan, device));
    if (job.engine == EnginePath::kFast) runner->set_audit_rates(job.audit);
  });
  const SessionInfo session = describe_session(comm, job, device);
  std::optional<Ledger> ledger;  // rank 0 only
  comm.from_root([&] {
    const int workers = comm.size() - (job.dedicated_driver ? 1 : 0);
    ledger.emplace(job, plan, describe(job, plan, *runner), session, workers,
                   runner->engine(0).trials_at_once());
    begun();
    report_images(plan, *runner);
    warn_of_spared_layers(plan.points, runner->engine(0).space());
    warn_of_short_ranges(plan, *runner);
    warn_of_missing_words(plan, *runner);
    return Bytes();
  });
  const StopWatch watch;  // until all is stored
  run_pool(
      comm, [&] { return ledger->next(); },
      [&](const Bytes& chunk) { return work_on(chunk, *runner, comm, job.compute.threads); },
      [&](const Bytes& result) { ledger->sink(result); }, {job.dedicated_driver});
  return code_of_root(comm, [&] { return ledger->finish(); });
}

}  // namespace sentinel
