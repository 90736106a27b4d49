#pragma once
#include <vector>

#include "sentinel/graph/graph.hpp"

namespace sentinel {

/// Wall times of one network on one batch, all in [ms].
struct Latency {
  std::vector<double> runs;                 // of the whole network, the logits on the CPU
  std::vector<std::vector<double>> layers;  // [node][run]; empty where not measured
};

struct Quartiles {
  double first = 0, median = 0, third = 0;
};
/// Of at least one sample.
Quartiles quartiles(std::vector<double> samples);
/// Of `after` relative to `before`, run by run: what slows a whole round cancels out.
Quartiles latency_ratio(const Latency& after, const Latency& before);

/// Times the networks in turn, one run of each in a round, so that what else goes on on the machine
/// hits all alike; every round begins with another one. The first `warmup` rounds do not count.
/// `images` [N, C, H, W] f32 on the networks' device. `layers`: times of single layers for that
/// many of the networks, from rounds of their own.
std::vector<Latency> measure_latency(const std::vector<const Graph*>& networks,
                                     const at::Tensor& images, int warmup, int runs,
                                     std::size_t layers);

}  // namespace sentinel
