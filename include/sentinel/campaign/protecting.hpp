#pragma once
#include <string>

#include "sentinel/campaign/job.hpp"
#include "sentinel/comm/comm.hpp"
#include "sentinel/networks/network.hpp"
#include "sentinel/networks/selection.hpp"
#include "sentinel/transform/importance.hpp"

namespace sentinel {

/// make_hardened by the job. It may search bounds by campaigns, whose trials are kept in a folder
/// beside `path`, where the network is going to be; or train them on rank 0, whose state is kept
/// beside `path` until the network is written. `reuse` as of make_hardened. Collective.
NamedModel make_protected(const Comm& comm, const NamedModel& model,
                          const ModelSelection& selection, const ChannelScores& scores,
                          const ProtectionJob& job, at::Device device, const std::string& path,
                          const std::string& reuse);

}  // namespace sentinel
