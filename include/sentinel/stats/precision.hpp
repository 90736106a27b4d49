#pragma once

namespace sentinel {

/// How precise an answer is wanted, and what its intervals are like.
struct Precision {
  double half_width = 0;     // at which a plan stops; 0: it has a fixed number of trials
  double confidence = 0.95;  // of intervals, in (0, 1)
  bool guaranteed = false;   // intervals that hold for every number of trials

  bool stops() const { return half_width > 0; }
};

}  // namespace sentinel
