#include "sentinel/core/cpus.hpp"

#include <sched.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <climits>
#include <cstdlib>
#include <limits>
#include <sstream>
#include <thread>

#include "core/control_groups.hpp"

namespace sentinel {
namespace {

constexpr double kUnlimited = std::numeric_limits<double>::infinity();

/// The smallest grant of this process's control group and those above it.
double granted_by_control_groups() {
  double least = kUnlimited;
  for (const auto& group : own_control_groups("cpu")) {
    const std::string old =
        first_line(group / "cpu.cfs_quota_us") + " " + first_line(group / "cpu.cfs_period_us");
    least = std::min({least, granted_cpus(first_line(group / "cpu.max")), granted_cpus(old)});
  }
  return least;
}

/// The number from 1 on that a variable begins with (OMP_NUM_THREADS may be a list), 0 if none.
int number_in(const char* variable) {
  const char* text = std::getenv(variable);
  if (!text) return 0;
  const std::string words = text;
  int number = 0;
  const auto [end, error] = std::from_chars(words.data(), words.data() + words.size(), number);
  const bool ends = end == words.data() + words.size() || *end == ',';
  return error == std::errc() && ends ? std::max(number, 0) : 0;
}

}  // namespace

CpuSet allowed_cpus() {
  std::array<unsigned long, CpuSet().size() / (CHAR_BIT * sizeof(unsigned long))> words{};
  CpuSet cpus;
  if (::sched_getaffinity(0, sizeof words, reinterpret_cast<cpu_set_t*>(words.data())) != 0) {
    for (unsigned cpu = 0; cpu < std::max(1u, std::thread::hardware_concurrency()); ++cpu)
      cpus.set(cpu);
    return cpus;
  }
  constexpr std::size_t kBits = CHAR_BIT * sizeof(unsigned long);
  for (std::size_t cpu = 0; cpu < cpus.size(); ++cpu)
    cpus[cpu] = (words[cpu / kBits] >> (cpu % kBits)) & 1;
  return cpus;
}

double share_of_cpus(const CpuSet& own, const std::vector<CpuSet>& all) {
  double share = 0;
  for (std::size_t cpu = 0; cpu < own.size(); ++cpu) {
    if (!own[cpu]) continue;
    const auto users = std::count_if(all.begin(), all.end(), [&](auto& set) { return set[cpu]; });
    share += 1.0 / static_cast<double>(std::max<std::ptrdiff_t>(users, 1));
  }
  return share;
}

double granted_cpus(const std::string& quota_and_period) {
  std::istringstream words(quota_and_period);
  double quota = 0, period = 0;
  const bool limited = words >> quota >> period && quota > 0 && period > 0;
  return limited ? quota / period : kUnlimited;
}

int default_threads(double cpus, int processes) {
  const int chosen = number_in("OMP_NUM_THREADS");
  if (chosen > 0 && chosen <= kMostThreads) return chosen;
  cpus = std::min(cpus, granted_by_control_groups() / processes);
  if (const int task = number_in("SLURM_CPUS_PER_TASK")) cpus = std::min<double>(cpus, task);
  constexpr double kRounding = 1e-6;  // three thirds are one
  return std::max(1, static_cast<int>(cpus + kRounding));
}

}  // namespace sentinel
