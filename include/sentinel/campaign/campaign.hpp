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

/// Estimates with intervals from all rows of a result, in (point, model) order: accuracy,
/// SDC-critical and DUE rates over trials, and the difference of every further model to the first
/// (paired where the faults are shared). `rows` sorted by (point, id, model).
class EstimateBuilder {
 public:
  /// `paired[p]`: whether the models of point p share their faults.
  EstimateBuilder(std::vector<bool> paired, std::size_t models, double confidence);
  ~EstimateBuilder();
  /// All rows of one trial, in model order; trials in any order.
  void add(const std::vector<TrialRow>& trial);
  std::vector<EstimateRow> estimates() const;
  /// "accuracy 58.8 % ± 0.8 → 88.2 % ± 0.1" of a point, for the progress line.
  std::string headline(std::uint32_t point) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
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
