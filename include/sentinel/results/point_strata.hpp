#pragma once
#include <cstdint>
#include <vector>

#include "sentinel/store/schema.hpp"

namespace sentinel {

/// The strata of a point that trials come from, and the share of the population that is known
/// without any: the last stratum, where its cost is 0. Bug where another's is.
struct SampledStrata {
  std::vector<double> weights;  // of what is not known; sum 1
  std::vector<double> costs;
  double known = 0;
};
SampledStrata sampled_strata(std::vector<double> weights, std::vector<double> costs);
SampledStrata sampled_strata(const ResultInfo& info, std::uint32_t point);
/// Whether the strata are of trials by the words or blocks that are read wrongly.
bool counts_words_read_wrongly(const ResultInfo& info, std::uint32_t point);
/// Weights of the strata that trials are allocated by: the mean over the networks.
std::vector<double> mean_weights(const ResultInfo& info, std::uint32_t point);

}  // namespace sentinel
