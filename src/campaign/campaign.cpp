#include "sentinel/campaign/campaign.hpp"

#include "campaign/build.hpp"
#include "campaign/job_networks.hpp"
#include "campaign/result_info.hpp"
#include "campaign/run_trials.hpp"
#include "campaign/sampling.hpp"
#include "sentinel/campaign/ranking.hpp"
#include "sentinel/campaign/validation.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/networks/device.hpp"
#include "sentinel/networks/network.hpp"
#include "sentinel/networks/outputs.hpp"
#include "sentinel/networks/training_state.hpp"
#include "sentinel/store/result_store.hpp"

namespace sentinel {
namespace {

/// Everything that the job writes.
std::vector<Output> outputs_of(const Job& job) {
  std::vector<Output> outputs = {{job.output, FileKind::kResult}};
  for (const MadeNetwork& made : made_networks(job)) {
    outputs.push_back({made.path, FileKind::kCheckpoint});
    const bool trains = made.steps == "pruned" || trains_bounds(job.protection.hardening.search);
    if (trains) outputs.push_back({state_beside(made.path), FileKind::kTrainingState});
  }
  if (!needs_scores(job)) return outputs;
  for (const Output& trials : channel_outputs(job.protection.ranking)) {
    outputs.push_back(trials);
    if (job.pruning) outputs.push_back({trials.path + ".pruned.h5", FileKind::kResult});
  }
  return outputs;
}

std::vector<std::string> inputs_of(const Job& job) {
  std::vector<std::string> inputs = {job.selection.checkpoint, job.protection.ranking.file,
                                     job.faults.list};
  for (const GivenNetwork& network : given_networks(job)) inputs.push_back(network.path);
  return inputs;
}

}  // namespace

ExitCode run_campaign(const Comm& comm, const Job& asked) {
  Job job = asked;
  at::Device device = at::kCPU;
  comm.agree([&] {
    validate(job);
    if (job.dedicated_driver && comm.size() == 1)
      throw UserError(spelled(Setting::kDedicatedDriver) +
                      " needs at least two ranks; start with mpirun -n 2 or more");
    device = choose_device(comm, job.compute);
    validate_device(job, device);
  });
  comm.from_root([&] {
    check_outputs(outputs_of(job), inputs_of(job));
    if (!job.fresh) require_current_schema(job.output, restart_advice());
    return Bytes();
  });
  if (job.protect) note_method(comm, job.protection);
  const std::vector<std::string> paths = made_paths(job);
  Built built = build(comm, job, device);
  TrialPlan plan{"inject", built.models, built.images, {}, built.scores};
  comm.agree([&] { plan.points = planned_points(job, built.models, built.list); });
  plan.warned = built.warned;
  return run_trials(comm, job, plan, device, [&] { write_made(paths, built.models); });
}

}  // namespace sentinel
