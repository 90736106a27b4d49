#pragma once
#include <optional>
#include <string>
#include <vector>

#include "sentinel/io/dataset.hpp"
#include "sentinel/networks/network.hpp"
#include "sentinel/networks/selection.hpp"
#include "sentinel/transform/train.hpp"

namespace sentinel {

/// Gives the network the constants that the selection names. Warns where they contradict what the
/// file says (`recorded`). UserError for constants that cannot be.
void choose_normalisation(Graph& graph, const ModelSelection& selection,
                          const std::optional<Normalisation>& recorded);

/// How these images are normalised for the network.
Normalisation normalisation_of(const Graph& graph, const Dataset& images);

/// One log line for all models, or one for each where their constants differ.
void log_normalisation(const std::vector<NamedModel>& models, const Dataset& images);

/// One log line about the images of a `step` of work such as "calibration". Nothing without images.
void log_images(const std::string& step, const NamedModel& model, const Dataset& images);

/// Warns where fault-free answers are no better than guessing, and says whether it did: all images
/// have the same logits; or, most often, the images are not normalised, or the classes not
/// numbered, as in the network's training. `source` of the network, for the message.
bool warn_if_guessing(const std::string& source, const Graph& graph, const Dataset& images,
                      const Accuracy& accuracy);
/// The same by the first 64 images. Computes on this rank alone.
bool warn_if_guessing(const NamedModel& model, const Dataset& images, at::Device device);

}  // namespace sentinel
