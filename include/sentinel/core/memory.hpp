#pragma once
#include <cstdint>

namespace sentinel {

/// Memory this process's node (or container, or SLURM allocation's cgroup) has [bytes].
std::uint64_t memory_of_node();

}  // namespace sentinel
