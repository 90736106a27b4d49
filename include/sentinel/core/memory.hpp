#pragma once
#include <cstdint>

namespace sentinel {

/// Memory this process's node (or container, or SLURM allocation's cgroup) has [bytes].
std::uint64_t memory_of_node();

/// The most memory that this process ever had [bytes], libraries included.
std::uint64_t peak_memory();

}  // namespace sentinel
