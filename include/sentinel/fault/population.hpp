#pragma once
#include <string>
#include <vector>

#include "sentinel/fault/fault_space.hpp"

namespace sentinel {

/// Cost of a trial without effect, which still has its row.
inline constexpr double kCostOfARow = 1e-3;

/// A population of trials cut into parts of known shares.
struct Strata {
  std::vector<std::string> names;
  std::vector<double> weights;  // shares, sum 1
  std::vector<double> costs;    // mean work of a trial, relative; from MACs, never from the clock.
                                // 0, of the last alone: its trials are known, as the network is
                                // then read as without faults
  /// Mean number of words read wrongly, or of critical bits, where that makes the strata of coded
  /// words; else empty.
  std::vector<double> counts = {};
  bool of_words = false;  // `counts` are of words, or of blocks of them
  int version = 1;        // 2: of coded words, and words of several layouts; made otherwise once
};

/// A fault-free network and its own space; both live no longer than a constructor needs.
struct SpaceOfNetwork {
  const Graph& graph;
  const FaultSpace& space;
};

}  // namespace sentinel
