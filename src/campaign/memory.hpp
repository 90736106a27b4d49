#pragma once
#include <cstdint>

#include "sentinel/campaign/job.hpp"
#include "sentinel/comm/comm.hpp"

namespace sentinel {

/// What this rank may keep of fault-free activations [bytes]: what the job says, or half of the
/// rank's share of the node's memory.
std::uint64_t cache_budget(const Comm& comm, const Job& job);

}  // namespace sentinel
