#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "sentinel/store/result_file.hpp"
#include "sentinel/transform/importance.hpp"

namespace sentinel {

/// How many flips channel-FI tries in a channel of N bits: n = min(cap, ceil(N / (1 + e^2 (N-1) /
/// (t^2 p (1-p))))), the sample of a finite population that finds a share p to +- e (Leveugle et
/// al., "Statistical fault injection: quantified error and confidence", DATE 2009).
struct ChannelSampling {
  double error = 0.01;  // e, in (0, 1)
  double t = 1.96;      // quantile of the confidence
  double p = 0.5;       // expected share of failures, in (0, 1); 0.5 asks for the most trials
  std::uint64_t cap = 2000;
};
/// n for a channel of `bits` >= 1 bits.
std::uint64_t channel_sample_size(std::uint64_t bits, const ChannelSampling& sampling);

/// An output channel of a convolution as channel-FI sees it.
struct FaultChannel {
  NodeId node = 0;
  std::string layer;
  std::int64_t channel = 0;
  std::uint64_t bits = 0;  // N: of its stored words, the original's only
};
/// Every output channel of every convolution, in execution order: the points of a channel-FI
/// campaign by number.
std::vector<FaultChannel> fault_channels(const Graph& graph);

/// Estimates -> scores of channel-FI: by channel the mean share of images with DUE or SDC-critical
/// under one flip, its interval (which takes no account of the population being finite: it stays
/// wide where every bit was tried), the mean accuracy and the trials behind them. Layers without
/// planned trials are left out. `result`: complete, its points as fault_channels(graph) (Bug
/// otherwise).
ChannelScores channel_fault_scores(const Graph& graph, const ResultFile& result);

}  // namespace sentinel
