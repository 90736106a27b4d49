#pragma once
#include <chrono>
#include <optional>

#include "campaign/run_trials.hpp"
#include "sentinel/core/log.hpp"

namespace sentinel {

/// Rank 0's side of a campaign: what is stored, what is missing, what is known so far.
class Ledger {
 public:
  Ledger(const Job& job, const TrialPlan& plan, ResultInfo info, SessionInfo session, int workers);

  /// The next chunk of missing trials; nothing where all are handed out or a stop was asked for.
  std::optional<Bytes> next();
  /// Stores the records of a chunk.
  void sink(const Bytes& result);
  /// Publishes; kDone or the code of the stop.
  ExitCode finish();

 private:
  void recall();
  void add(const std::vector<TrialRecord>& records, std::size_t first);
  void refresh_estimates();

  std::vector<std::uint64_t> trials_;  // planned, by point
  std::size_t models_;
  std::uint64_t planned_ = 0, done_ = 0;
  EstimateBuilder estimates_;
  ResultStore store_;
  std::optional<ChunkPlanner> planner_;
  std::optional<Progress> progress_;
  std::chrono::steady_clock::time_point refreshed_{};
};

}  // namespace sentinel
