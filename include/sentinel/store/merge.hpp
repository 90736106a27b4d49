#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "sentinel/store/schema.hpp"

namespace sentinel {

struct MergeReport {
  std::uint64_t trials = 0;      // stored, of all points together
  std::uint64_t planned = 0;     // of all points together
  std::uint64_t duplicates = 0;  // rows that another input had too
  bool complete = false;         // every planned trial is stored, but for points that need none
};

/// Joins results of one campaign that hold different trials of it, whole or not. Those of schema 1
/// make a result of schema 1, which the version that began them can go on with. Rows that several
/// inputs hold must be equal and are stored once; every input's sessions are kept, numbered anew by
/// their start; of a point as many trials are planned as the input that plans most. What is the
/// same for all parts (models, golden run, importance, job, provenance) is taken from the first. A
/// result of the same campaign at `output` is one more input, so that nothing stored is lost.
///
/// In three steps, as estimates are made by whoever knows how: open, visit the trials, write. Rows
/// are streamed: what is in memory does not grow with their number but for 8 bytes a row.
class ResultMerge {
 public:
  /// UserError where the output is one of the inputs, an input is of another job than the first
  /// (naming what differs), has another schema, confidence or an adaptive plan; DataError where
  /// one, or what lies at `output`, cannot be read; EnvironmentError where the output is locked or
  /// cannot be written.
  ResultMerge(const std::vector<std::string>& inputs, const std::string& output);
  ~ResultMerge();

  /// Of the joined result.
  const ResultInfo& info() const;
  /// Visits the rows of every trial, in model order, by (point, id). DataError where two inputs
  /// disagree about a trial or one is damaged, naming file and trial. No HDF5 in `visit`.
  void each_trial(const std::function<void(const std::vector<TrialRow>&)>& visit);
  /// After each_trial: publishes the joined result by rename. EnvironmentError.
  MergeReport write(std::vector<EstimateRow> estimates);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sentinel
