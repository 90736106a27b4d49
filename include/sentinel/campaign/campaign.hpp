#pragma once
#include <string>

#include "sentinel/campaign/job.hpp"
#include "sentinel/comm/comm.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/networks/device.hpp"

namespace sentinel {

/// Runs or resumes a campaign: builds the models on every rank, hands out the missing trials,
/// stores every trial, keeps going until all are there or a stop was asked for. Returns kDone,
/// kMismatch (1) where all are there and an audit found a mismatch, kStopped (75) or kInterrupted
/// (130), the same on every rank. Collective; errors are SharedErrors.
ExitCode run_campaign(const Comm& comm, const Job& job);

/// What `bench` measures.
struct BenchReport {
  std::uint64_t trials = 0;
  double seconds = 0;
  std::string rows_sha256;  // over what a trial found and its faults; no times, ranks, sessions
};
/// A seeded built-in mini-campaign on synthetic images with a random network, nothing stored.
/// Collective.
BenchReport run_bench(const Comm& comm, const Compute& compute, std::uint64_t trials);

}  // namespace sentinel
