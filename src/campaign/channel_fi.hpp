#pragma once
#include "sentinel/campaign/job.hpp"
#include "sentinel/comm/comm.hpp"
#include "sentinel/networks/network.hpp"
#include "sentinel/networks/selection.hpp"
#include "sentinel/transform/importance.hpp"

namespace sentinel {

/// channel-FI (docs/methods.md): runs what its result file (job.channel_faults.output) lacks of its
/// trials, distributed like any campaign, and turns the rows into scores, complete on rank 0 only.
/// Points are all channels of the network, so that other layers, or more trials, extend the file.
/// Where a stop is asked for, everything is stored and SharedError (kStopped, kInterrupted) thrown:
/// the same call goes on. Installs the handlers of stop.hpp. Collective.
ChannelScores run_channel_faults(const Comm& comm, const NamedModel& model,
                                 const ModelSelection& selection, const RankingJob& job,
                                 at::Device device);

}  // namespace sentinel
