#include "sentinel/core/memory.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "core/control_groups.hpp"

namespace sentinel {

namespace {

/// The smallest memory that this process's control group and those above it grant; a container or a
/// SLURM job sets one. A file that says "max" grants everything.
std::uint64_t granted_by_control_groups() {
  std::uint64_t least = UINT64_MAX;
  for (const auto& group : own_control_groups("memory"))
    for (const char* name : {"memory.max", "memory.limit_in_bytes"}) {
      std::ifstream file(group / name);
      std::uint64_t granted = 0;
      if (file >> granted) least = std::min(least, granted);
    }
  return least;
}

}  // namespace

std::uint64_t memory_of_node() {
  const auto pages = static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES));
  std::uint64_t bytes = pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  return std::min(bytes, granted_by_control_groups());
}

std::uint64_t peak_memory() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
}

}  // namespace sentinel
