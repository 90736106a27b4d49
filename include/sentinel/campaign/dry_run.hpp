#pragma once

#include "sentinel/campaign/dry_run_report.hpp"
#include "sentinel/campaign/job.hpp"
#include "sentinel/comm/comm.hpp"

namespace sentinel {

/// Reads the job's networks and images, draws no fault, stores nothing. Networks that a campaign
/// would make are not made. Collective; SharedErrors, also where the job's plan cannot be made.
DryRun dry_run(const Comm& comm, const Job& job);

}  // namespace sentinel
