#include "campaign/memory.hpp"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <string>

namespace sentinel {

std::uint64_t memory_of_node() {
  const auto pages = static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES));
  std::uint64_t bytes = pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  // A control group may grant less ("max" where it does not).
  std::ifstream file("/sys/fs/cgroup/memory.max");
  std::uint64_t granted = 0;
  if (file >> granted) bytes = std::min(bytes, granted);
  return bytes;
}

}  // namespace sentinel
