#pragma once
#include <string>

#include "sentinel/campaign/job.hpp"
#include "sentinel/comm/comm.hpp"
#include "sentinel/graph/graph.hpp"
#include "sentinel/networks/network.hpp"

namespace sentinel {

/// FT-ClipAct's search (docs/methods.md): finds the bound of every activation of `graph`, one per
/// layer, from its calibrated one down, in execution order; earlier ones are found already.
/// Every round is a campaign of its four candidates with faults in weights, distributed and audited
/// like any. Its trials are a result file in `folder`, which exists. A later call goes on with them.
/// `calibration`: its held-out part judges. SharedError (kMismatch) where an audit finds one.
/// `original`: what the graph was made from. Where a stop is asked for, everything is stored and
/// SharedError (kStopped, kInterrupted) thrown. Collective.
void search_by_trials(const Comm& comm, Graph& graph, const NamedModel& original,
                      const ProtectionJob& job, const Dataset& calibration,
                      const std::string& folder, at::Device device);

}  // namespace sentinel
