#include "campaign/cache_budget.hpp"

#include "sentinel/networks/device.hpp"

namespace sentinel {

std::uint64_t cache_budget(const Comm& comm, const Job& job, at::Device device) {
  if (job.cache_budget_gib > 0)
    return static_cast<std::uint64_t>(job.cache_budget_gib * (1ull << 30));
  return memory_of_rank(comm, device) / 2;
}

}  // namespace sentinel
