#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "sentinel/graph/graph.hpp"
#include "sentinel/io/dataset.hpp"
#include "sentinel/transform/bound_search.hpp"

namespace sentinel {

struct BoundTraining {
  BoundSearch search;  // kFitact or kProact
  at::Device device = at::kCPU;
  std::string state_file = {};  // kept after each epoch, so that a later call goes on; empty: none
  bool fresh = false;           // throw away a state that is there
};

struct BoundEpoch {
  std::string site;        // whose bounds are trained; empty: all
  std::int64_t epoch = 0;  // from 1, of all sites together
  double loss = 0;         // mean of the epoch
  double accuracy = 0;     // on the held-out images, with the bounds of the epoch
  bool kept = true;        // false: rolled back, and the next weight decay is tried
  bool stored = false;     // done by an earlier call, told again from the state file
};
using OnBoundEpoch = std::function<void(const BoundEpoch&)>;

/// Shares of the held-out images that are right.
struct NoneKept {
  double with_bounds = 0, without_bounds = 0;
};
struct TrainedBounds {
  bool ended = true;                       // false: a stop was asked for
  std::optional<NoneKept> none_kept = {};  // kProact rolled every epoch back
};

/// Trains the bounds of a calibrated graph whose activations are kSmooth, by Adam; all else is
/// frozen, batch norm in evaluation mode. The last tenth of the images is held out.
/// - kFitact (Ghavami et al., "FitAct", DATE 2022): all bounds together; loss: cross entropy +
///   4e-11 sum over the sites of mean(b^2); learning rate 1e-3, a cosine to 0.
/// - kProact (Mousavi et al., "ProAct", TCAD 2024): one site at a time, from the last backwards;
///   loss: cross entropy with the labels + cross entropy with the softmax of the network without
///   bounds; learning rate 1e-2, of bounds per neuron 1e-3; weight decays 4e-5, 4e-6 ... 4e-15. An
///   epoch is kept while the held-out accuracy is at most 0.2 points below that without bounds;
///   else the site returns to what it had before it and goes on with the next decay. Where bounds
///   as they were given cost more already, no epoch may be kept.
/// A stop may be asked for before the end. A later call with the same state file, graph and images
/// then goes on after the last whole epoch. It ends with the bits of an undisturbed one. The
/// state file stays at the end too, until the network is written. UserError for the state of
/// another training, DataError for a damaged one.
TrainedBounds train_bounds(Graph& graph, const Dataset& images, const BoundTraining& training,
                           const OnBoundEpoch& report);

}  // namespace sentinel
