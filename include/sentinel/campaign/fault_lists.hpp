#pragma once
#include <string>

#include "sentinel/campaign/job.hpp"
#include "sentinel/comm/comm.hpp"
#include "sentinel/core/bytes.hpp"

namespace sentinel {

/// Reads the job's list, if it has one, and notes whether it names outputs of nodes. Collective.
void look_at_list(const Comm& comm, FaultsJob& faults);

/// A list to inject. DataError where it cannot be read, or is too large.
Bytes read_fault_list(const std::string& path);
/// As write_output.
void write_fault_list(const std::string& path, const std::string& text);

}  // namespace sentinel
