#pragma once
#include <map>
#include <vector>

#include "campaign/chunks.hpp"
#include "campaign/trial_plan.hpp"
#include "sentinel/results/estimates.hpp"

namespace sentinel {

/// What is known of one point of a campaign on rank 0: which trials may be run, what they showed,
/// whether they are enough. Trials are taken in the order of their ids, whatever that of arrival.
class PointProgress {
 public:
  PointProgress(const ResultInfo& info, std::uint32_t number, const CampaignPoint& point);

  /// For the planner; this must stay where it is.
  TrialSource source(int workers) const;
  /// All rows of a trial, in model order; trials in any order, none twice.
  void add(std::vector<TrialRow> trial);

  /// Trials that are wanted as far as is known: less than planned once the stop rule is met.
  std::uint64_t wanted() const { return last() - point_.first; }
  /// The same as far as can be guessed: the width of an interval falls as 1/sqrt(trials); of an
  /// allocated plan what is planned, which should be enough.
  std::uint64_t expected() const;
  /// Of these, how many are here.
  std::uint64_t done() const { return done_; }
  /// What to tell of a plan that ended at its last trial and not at its half-width; empty: nothing.
  std::string shortfall() const;
  /// What a user types to run a stored trial of `result` again by the reference path.
  std::string replay_command(const std::string& result, std::uint64_t id) const;
  std::string headline() const { return estimates_.headline(); }
  /// Adds what is known to what the file says.
  void report(Findings& findings) const;

 private:
  std::uint64_t last() const { return decided_ ? next_ : point_.trials; }
  void take(const std::vector<TrialRow>& trial);
  void check_draw(const TrialRow& row) const;

  std::uint32_t number_;
  CampaignPoint point_;
  PlanInfo plan_;
  Design design_;
  PointEstimates estimates_;
  std::uint64_t next_, done_ = 0;                           // next_: id
  std::map<std::uint64_t, std::vector<TrialRow>> waiting_;  // for trials before them
  bool decided_ = false;                                    // the stop rule is met
  std::vector<EstimateRow> looks_;                          // of a sequential plan
};

}  // namespace sentinel
