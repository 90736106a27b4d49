#include "sentinel/campaign/campaign.hpp"

#include "campaign/build.hpp"
#include "campaign/describe.hpp"
#include "campaign/names.hpp"
#include "campaign/run_trials.hpp"

namespace sentinel {
namespace {

/// Before any work.
void check_outputs(const Job& job) {
  check_result_path(job);
  const std::vector<GivenNetwork> given = given_networks(job);
  for (const std::string& path : made_paths(job)) {
    require_writable(path);
    std::vector<std::string> others;
    for (const GivenNetwork& network : given) others.push_back(network.path);
    others.insert(others.end(),
                  {job.selection.checkpoint, job.output, job.protection.ranking.file});
    require_distinct(path, others);
  }
}

}  // namespace

ExitCode run_campaign(const Comm& comm, const Job& asked) {
  Job job = asked;
  at::Device device = at::kCPU;
  comm.agree([&] {
    validate(job);
    if (job.dedicated_driver && comm.size() == 1)
      throw UserError(
          "--dedicated-driver needs at least two ranks; start with mpirun -n 2 or more");
    device = choose_device(comm, job.compute);
  });
  comm.from_root([&] {
    check_outputs(job);
    return Bytes();
  });
  if (job.protect) job.protection.ranking.importance = method_of(comm, job.protection.ranking);
  const Built built = build(comm, job, device);
  TrialPlan plan{"inject", built.models, built.images, points_of(job), built.scores};
  plan.warned = built.warned;
  return run_trials(comm, job, plan, device, [&] { write_made(job, built.models); });
}

}  // namespace sentinel
