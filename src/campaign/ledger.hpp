#pragma once
#include <chrono>
#include <memory>
#include <optional>

#include "campaign/point_progress.hpp"
#include "campaign/trial_plan.hpp"
#include "sentinel/core/log.hpp"

namespace sentinel {

/// Rank 0's side of a campaign: what is stored, what is missing, what is known so far.
class Ledger {
 public:
  Ledger(const Job& job, const TrialPlan& plan, ResultInfo info, SessionInfo session, int workers,
         std::int64_t trials_at_once = 0);

  /// The next chunk of missing trials; nothing where all are handed out or a stop was asked for.
  std::optional<Bytes> next();
  /// Stores the result of a chunk.
  void sink(const Bytes& result);
  /// Publishes; kDone, kMismatch where an audit found one, or the code of the stop.
  ExitCode finish();

 private:
  void recall(const std::string& path, const std::string& remedy);
  bool audits_agree() const;
  void store_findings();
  void warn_of_shortfalls() const;
  std::uint64_t wanted() const;
  std::uint64_t expected() const;
  std::uint64_t done() const;

  std::string path_;
  std::vector<std::string> models_;  // names
  std::vector<std::unique_ptr<PointProgress>> points_;
  ResultStore store_;
  std::optional<ChunkPlanner> planner_;
  std::optional<Progress> progress_;
  std::chrono::steady_clock::time_point refresh_{};  // when findings are due
};

}  // namespace sentinel
