#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "sentinel/campaign/job.hpp"
#include "sentinel/comm/comm.hpp"
#include "sentinel/results/trial_choice.hpp"
#include "sentinel/store/schema.hpp"

namespace sentinel {

struct ReplayJob {
  std::string result;                // path
  Job job;                           // that made it
  std::optional<EnginePath> engine;  // other than the job's
  TrialChoice trials;
  bool keeps_records = false;  // in the report
};

/// One model's row of a trial, as stored and as run again.
struct ReplayedRow {
  TrialRow stored, replayed;
  /// Every column was compared, as the same device type, instruction set and engine must give the
  /// same bits; otherwise all but the split of masked and non-critical images.
  bool bitwise = false;
  std::vector<std::string> differences;  // "correct: 9 -> 8", "fault 0 after: 0x1 -> 0x3"
};
struct ReplayReport {
  std::vector<ReplayedRow> rows;            // by (point, id, model)
  std::uint64_t trials = 0, identical = 0;  // of all models
  std::vector<std::string> models;          // names, by number
  std::vector<TrialRecord> records;         // as run again, where the job wants them
  ResultInfo info;                          // of the result, on rank 0
  std::string note;  // where and how rows were not compared bitwise, or empty
};

/// Runs stored trials again, distributed like any campaign, and compares rows and faults with those
/// stored. The networks that the campaign made are read from their files, beside the result or
/// where the job kept them; nothing is calibrated or trained. The report is complete on rank 0
/// only. Collective; SharedErrors: UserError where a trial is not stored or the job rebuilt is
/// not the result's (naming what differs), DataError for files.
ReplayReport run_replay(const Comm& comm, const ReplayJob& replay);

}  // namespace sentinel
