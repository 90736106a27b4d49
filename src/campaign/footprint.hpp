#pragma once
#include "campaign/build.hpp"
#include "campaign/trial_plan.hpp"
#include "sentinel/campaign/dry_run_report.hpp"
#include "sentinel/campaign/job.hpp"
#include "sentinel/comm/comm.hpp"

namespace sentinel {

/// Memory of a rank at its peak beside that of loading, and the size of a result without trials:
/// network_bytes, image_bytes, cache_bytes, result_bytes. Measured against runs in
/// tests/bench/README.md.
void describe_footprint(DryRun& run, const Comm& comm, const Job& job, const Built& built,
                        at::Device device);

/// Sizes of a point's faults on so many images: bytes per trial in the result file and in the
/// journals, bytes in the memory of a rank. `told` has the trials and their time.
void describe_fault_bytes(DryRun::Point& told, const CampaignPoint& point, const FaultsJob& job,
                          const Built& built, std::int64_t images);

}  // namespace sentinel
