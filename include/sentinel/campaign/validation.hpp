#pragma once
#include <ATen/ATen.h>

#include "sentinel/campaign/job.hpp"

namespace sentinel {

/// Checks everything that can be known without reading a file. Throws UserError naming the setting.
void validate(const Job& job);
/// Likewise for the device that a rank computes on.
void validate_device(const Job& job, at::Device device);
void validate(const ProtectionJob& job);
void validate(const PruningJob& job);
void validate(const ChannelFaultsJob& job);

}  // namespace sentinel
