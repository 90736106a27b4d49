#pragma once
#include "sentinel/campaign/job.hpp"

namespace sentinel {

/// Checks everything that can be known without reading a file. Throws UserError naming the option.
void validate(const Job& job);
void validate(const ProtectionJob& job);
void validate(const PruningJob& job);
void validate(const ChannelFaultsJob& job);
/// UserError where --sampling is unknown, or does not go with the job's other options.
void validate_sampling_word(const Job& job);

}  // namespace sentinel
