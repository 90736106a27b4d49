#pragma once
#include <functional>
#include <string>
#include <vector>

#include "sentinel/campaign/job.hpp"
#include "sentinel/comm/comm.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/stats/race.hpp"

namespace sentinel {

/// One round of a race: a range of trials on the candidates that remain.
struct RaceRound {
  int number = 1;
  TrialRange trials;
  std::vector<std::size_t> remaining;
};
/// The campaign of a round. Its networks are the original, then those that remain, in their order.
using RoundJob = std::function<Job(const RaceRound&)>;

/// What a race showed of a candidate: over all trials that it took part in, on the images of the
/// race. The winner's accuracy is biased upwards.
struct Raced {
  double fault_free = 0, accuracy = 0;  // shares
  std::uint64_t trials = 0;
  bool remains = true;
};
struct RaceReport {
  ExitCode code = ExitCode::kDone;  // that of the round that did not end well; then it is all
  std::size_t winner = 0;
  bool decided = true;       // else the race ended by its last trial
  std::vector<Raced> raced;  // by candidate, on rank 0
};

/// Runs, or goes on with, the rounds of a race (stats/race.hpp), each a campaign with a result of
/// its own: every trial of a result has a row of each of its networks, and here some leave.
/// Decisions are rank 0's, by the stored rows in the order of ids. The log names rounds and
/// candidates, which `names` has. Collective; SharedErrors.
RaceReport run_race(const Comm& comm, const RaceOptions& options,
                    const std::vector<std::string>& names, const RoundJob& job_of);

}  // namespace sentinel
