#pragma once
#include <optional>
#include <vector>

#include "sentinel/transform/factor_options.hpp"

namespace sentinel {

/// Searches the first step that changes something. Each step shifts twice as far as the one before.
///
/// kExhaustive asks every step up to it. kBisect takes all steps above a change to change something
/// too. kProportional takes all steps below two quiet ones in a row to change nothing. It asks all
/// others up to the first change, in an order that finds the largest quiet step soon.
class StepSearch {
 public:
  /// `steps`: those that may change something, ascending. `guess`: where kProportional begins.
  StepSearch(ToleranceOrder order, std::vector<int> steps, int guess = 0);

  bool done() const { return at_ == kNowhere; }
  int step() const { return steps_[at_]; }  // asked next; not when done
  /// `disturbance`: at most 1 where the step is quiet; it tells kProportional how many steps to go.
  void answer(bool changed, double disturbance);
  std::optional<int> first_change() const;

 private:
  static constexpr std::size_t kNowhere = static_cast<std::size_t>(-1);
  bool is_open(std::size_t place) const;
  bool is_quiet_pair(std::size_t place) const;
  std::size_t open_up_to(int step) const;
  std::size_t lowest_open() const;
  std::size_t next(double disturbance) const;
  std::size_t next_in_proportion(double disturbance) const;

  ToleranceOrder order_;
  std::vector<int> steps_;
  std::vector<bool> asked_, quiet_;
  std::size_t open_from_ = 0;  // places below are taken to change nothing
  std::size_t changed_;        // the lowest that is known to change something, or their number
  std::size_t at_ = kNowhere;
};

}  // namespace sentinel
