#pragma once
#include <cstdint>
#include <functional>

#include "sentinel/graph/graph.hpp"
#include "sentinel/io/dataset.hpp"

namespace sentinel {

/// Stochastic gradient descent with momentum and a cosine schedule over all steps.
struct TrainOptions {
  std::int64_t epochs = 10, batch_size = 128;
  double learning_rate = 0.1, momentum = 0.9, weight_decay = 1e-4;
  bool augment = true;  // pad 4, random crop, horizontal flip
  std::uint64_t seed = 1;
  at::Device device = at::kCPU;
};
struct EpochReport {
  std::int64_t epoch = 0;  // from 1
  double loss = 0;         // mean cross entropy of the epoch
  double accuracy = 0;     // on the held-out images
};

/// Trains in place; the best epoch on the held-out images is kept (ties: the later). Stops early,
/// keeping the best so far (the given weights before the first epoch's end), when a stop was asked
/// for. Copies of duplicated channels stay equal to their originals; bounds and intervals are not
/// trained: remove_limits() of a hardened graph before and recalibrate() it after. All randomness
/// from the counter-based generator. UserError for absurd options and where the loss diverges.
void train(Graph& graph, const Dataset& images, const Dataset& held_out,
           const TrainOptions& options, const std::function<void(const EpochReport&)>& report);

/// Fault-free accuracy on a data set; an image with a non-finite logit counts as wrong.
struct Accuracy {
  std::int64_t images = 0, correct = 0, top5 = 0;
};
Accuracy evaluate(const Graph& graph, const Dataset& images, at::Device device,
                  std::int64_t batch_size = 32);

}  // namespace sentinel
