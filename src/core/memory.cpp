#include "sentinel/core/memory.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>

namespace sentinel {

namespace {

/// The smallest memory.max of this process's control group and those above it (version 2; a
/// container or a SLURM job sets one). A file that says "max" grants everything.
std::uint64_t granted_by_control_groups() {
  std::uint64_t least = UINT64_MAX;
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    if (line.rfind("0::", 0) != 0) continue;
    for (std::filesystem::path group = line.substr(3);; group = group.parent_path()) {
      std::ifstream file("/sys/fs/cgroup" + group.string() + "/memory.max");
      std::uint64_t granted = 0;
      if (file >> granted) least = std::min(least, granted);
      if (group.empty() || group == group.root_path()) break;
    }
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
