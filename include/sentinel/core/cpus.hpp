#pragma once
#include <bitset>
#include <string>
#include <vector>

namespace sentinel {

/// CPUs of a host, as many as Linux can be built for. Plain bytes, so that ranks can exchange it.
using CpuSet = std::bitset<8192>;

/// The CPUs that this process may run on (its affinity).
CpuSet allowed_cpus();

/// CPUs for one of several processes that run at once [CPUs]: of each CPU in `own` the part that is
/// left where the others may use it too. `all` are the sets of all of them, `own` included.
double share_of_cpus(const CpuSet& own, const std::vector<CpuSet>& all);

/// CPU time that "QUOTA PERIOD" of a control group grants [CPUs]: cpu.max of version 2, or
/// cpu.cfs_quota_us and cpu.cfs_period_us of version 1. Infinity for "max", -1, or anything else.
double granted_cpus(const std::string& quota_and_period);

constexpr int kMostThreads = 1024;  // no host has more cores; more threads would end the process

/// Threads for a process with `cpus` CPUs, one of `processes` in the same control group. What
/// OMP_NUM_THREADS says, up to kMostThreads; else whole CPUs, at least 1, within what the control
/// group grants them together and within SLURM_CPUS_PER_TASK.
int default_threads(double cpus, int processes);

}  // namespace sentinel
