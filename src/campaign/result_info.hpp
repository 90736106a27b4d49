#pragma once
#include "campaign/trial_runner.hpp"

namespace sentinel {

/// The estimand of a sampler's trials: "T1", "T2", …
std::string estimand_of(const Sampler& sampler);

/// Adds the next point: its fault model, how its trials are chosen, and unless they are chosen
/// simply its strata.
void describe_point(ResultInfo& info, const CampaignPoint& point, const Strata* strata);

/// The part of a fingerprint that says how many trials run at once, where they do.
inline constexpr const char* kTrialsAtOncePart = "trials at once";

/// Everything a result file says before the first trial: models, points, provenance, fingerprint.
ResultInfo describe(const Job& job, const TrialPlan& plan, const TrialRunner& runner);

/// This incarnation: ranks, hosts, libraries, SLURM's variables. Collective; complete on rank 0.
SessionInfo describe_session(const Comm& comm, const Job& job, at::Device device);

}  // namespace sentinel
