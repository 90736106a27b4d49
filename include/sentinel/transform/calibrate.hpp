#pragma once
#include <string>
#include <vector>

#include "sentinel/comm/comm.hpp"
#include "sentinel/graph/graph.hpp"
#include "sentinel/io/dataset.hpp"

namespace sentinel {

/// Ranges of the fault-free outputs of activations, and of convolutions (before BN).
struct ActivationRanges {
  struct Site {
    std::string name;
    std::vector<double> low, high;  // [C], of activations [C * H * W] where neurons are told apart
  };
  std::vector<Site> activations, convs;  // execution order
};
/// Profiles an unprotected or protected graph fault-free on images, shared among the ranks by
/// blocks (minimum and maximum do not depend on their order). Collective, the same on every rank.
/// `per`: kNeuron tells neurons apart. Where an activation is not finite, every rank throws the
/// SharedError of a DataError; where neurons are told apart and the images have not the network's
/// size, that of a UserError.
ActivationRanges activation_ranges(const Graph& graph, const Dataset& images, const Comm& comm,
                                   at::Device device, BoundsPer per = BoundsPer::kChannel);

/// Sets every bound 2^-10 of it beyond the largest (or least) activation and every interval to the
/// profiled range widened by 10 % of its width on each side. `ranges` come from the unprotected
/// graph of the same channel order, i.e. by node name from the graph before restrict/duplicate;
/// they tell neurons apart where bounds do.
void calibrate(Graph& graph, const ActivationRanges& ranges);

/// By what the finest bounds of the graph tell its activations apart.
BoundsPer finest_bounds(const Graph& graph);

/// Makes every bound and interval infinite: nothing is restricted, every finite value is in range.
void remove_limits(Graph& graph);

}  // namespace sentinel
