#pragma once
#include <functional>
#include <string>
#include <vector>

#include "campaign/trial_runner.hpp"
#include "sentinel/networks/network.hpp"
#include "sentinel/store/result_store.hpp"

namespace sentinel {

/// What runs the trials on this rank; UserError where they cannot be, such as more faults than
/// bits.
TrialRunner make_runner(const Comm& comm, const Job& job, const TrialPlan& plan, at::Device device);

/// What a rank does with a Chunk: the encoded ChunkResult.
Bytes work_on(const Bytes& bytes, TrialRunner& runner, const Comm& comm, int threads);

/// Runs the trials that job.output lacks and publishes it. Of the job counts how to run and store,
/// not what. `begun` is called on rank 0 once the result is ours. kDone, kMismatch where an audit
/// of the complete result found one, or the code of the stop that was asked for, on every rank.
/// Collective; errors are SharedErrors.
ExitCode run_trials(
    const Comm& comm, const Job& job, const TrialPlan& plan, at::Device device,
    const std::function<void()>& begun = [] {});

}  // namespace sentinel
