#pragma once
#include "sentinel/campaign/job.hpp"

namespace sentinel {

/// Checks everything that can be known without reading a file. Throws UserError naming the setting.
void validate(const Job& job);
void validate(const ProtectionJob& job);
void validate(const PruningJob& job);
void validate(const ChannelFaultsJob& job);

}  // namespace sentinel
