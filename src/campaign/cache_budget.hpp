#pragma once
#include <ATen/ATen.h>

#include <cstdint>

#include "sentinel/campaign/job.hpp"
#include "sentinel/comm/comm.hpp"

namespace sentinel {

/// What this rank may keep of fault-free activations [bytes]: what the job says, or half of the
/// rank's share of the device's memory. EnvironmentError where a GPU does not say how much it has.
std::uint64_t cache_budget(const Comm& comm, const Job& job, at::Device device);

}  // namespace sentinel
