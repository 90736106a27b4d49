#pragma once
#include <memory>
#include <string>
#include <vector>

#include "sentinel/campaign/job.hpp"
#include "sentinel/comm/comm.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/store/schema.hpp"

namespace sentinel {

/// Runs or resumes a campaign: builds the models on every rank, hands out the missing trials,
/// stores every trial, keeps going until all are there or a stop was asked for. Returns kDone,
/// kStopped (75) or kInterrupted (130), the same on every rank. Collective; errors are
/// SharedErrors.
ExitCode run_campaign(const Comm& comm, const Job& job);

class PointEstimates;

/// Estimates with intervals from the rows of a result, in (point, model) order: accuracy, rates of
/// the outcomes, and the difference of every further model to the first (paired where the faults
/// are shared).
class EstimateBuilder {
 public:
  /// `info`: points, models, plans and image blocks of the result.
  explicit EstimateBuilder(const ResultInfo& info);
  ~EstimateBuilder();
  /// All rows of one trial, in model order; the trials of a point in the order of their ids.
  void add(const std::vector<TrialRow>& trial);
  std::vector<EstimateRow> estimates() const;

 private:
  std::vector<std::unique_ptr<PointEstimates>> points_;
};

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
