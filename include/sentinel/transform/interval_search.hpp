#pragma once
#include <vector>

#include "sentinel/stats/interval.hpp"
#include "sentinel/store/result_file.hpp"

namespace sentinel {

/// FT-ClipAct's search of a bound in [least, largest], or (0, largest] (Hoang et al., "FT-ClipAct", DATE 2020): four
/// equidistant candidates are scored, and the interval between the neighbours of the best is
/// searched again. Of equal scores the larger bound wins. It ends after 4 rounds, or after 3 where
/// no step of the score between neighbours is more than 0.2 points. It proposes and reads scores;
/// others run the trials.
class IntervalSearch {
 public:
  /// `least` < `largest`: where the activation has a lower bound too.
  explicit IntervalSearch(double largest, double least = 0);
  bool done() const { return done_; }
  /// Four bounds, ascending; the first is largest * 2^-10 where it would be 0.
  std::vector<double> candidates() const;
  /// Scores of the candidates [points], in their order.
  void take(const std::vector<double>& scores);
  double best() const { return best_; }

 private:
  double largest_, low_, high_, best_;
  int rounds_ = 0;
  bool done_ = false;
};

/// AUC of every trial and network, [trial][network], from the rows of a complete result whose
/// points are rates: a_p the accuracy at the p-th of n rates, (a_1/2 + a_2 + ... + a_n/2)/n
/// [points].
std::vector<double> trial_scores(const ResultFile& result);

struct CandidateScore {
  Interval auc;     // mean over the trials [points]
  Interval behind;  // mean of the best's minus its own, paired by trial; n = 0: it is the best
};
/// From trial_scores of so many networks.
std::vector<CandidateScore> candidate_scores(const std::vector<double>& trials,
                                             std::size_t networks);

}  // namespace sentinel
