#pragma once
#include <cstdint>
#include <string>

#include "sentinel/core/setting.hpp"
#include "sentinel/fault/fault_free.hpp"
#include "sentinel/graph/graph.hpp"
#include "sentinel/io/dataset.hpp"
#include "sentinel/transform/train_options.hpp"

namespace sentinel {

/// Trains in place; the best epoch on the held-out images is kept (ties: the later). False where a
/// stop was asked for before the end: then the graph is the best so far (as given before the first
/// epoch's end), and a later call with the same state file, graph, images and options goes on after
/// the last whole epoch and ends with the bits of an undisturbed one. The state file stays at the
/// end too, until the network is written.
///
/// A network that is stored in another way than fp32, or is to be by options.store, is trained as
/// it will be read: see AsRead. Epochs are judged, and the network is left, stored.
///
/// Copies of duplicated channels stay equal to their originals; bounds and intervals are
/// not trained: fit() sets them anew. All randomness from the counter-based generator. UserError
/// for absurd options, where the loss diverges, and for the state file of another training;
/// DataError for a damaged one.
bool train(Graph& graph, const Dataset& images, const Dataset& held_out,
           const TrainOptions& options, const OnEpoch& report);

/// Throws the UserErrors of absurd options, which name the settings that they come from.
void check_training(const TrainOptions& options, Setting epochs = Setting::kEpochs,
                    Setting batch_size = Setting::kBatchSize);

/// Training images apart.
struct HeldOut {
  Dataset fitted, held_out;
};
/// The last tenth, at least one image of one or more, is held out: fit() trains on none of it.
HeldOut hold_out(const Dataset& images);

/// train() as the commands use it. The epoch is chosen on a part of the images that is held out, or
/// on the test images. Bounds and intervals of a hardened graph are removed before, and calibrated
/// on all of `images` after. They are stored as the network's were and options.store says. False
/// as of train(). UserError where a rule names nothing.
bool fit(Graph& graph, const Dataset& images, const Dataset& test, BestOn best_on,
         const TrainOptions& options, const OnEpoch& report);

/// Fault-free accuracy on a data set; an image with a non-finite logit counts as wrong.
struct Accuracy {
  std::int64_t images = 0, correct = 0, top5 = 0;
  FaultFreeLogits logits = {};
};
Accuracy evaluate(const Graph& graph, const Dataset& images, at::Device device,
                  std::int64_t batch_size = 32);

}  // namespace sentinel
