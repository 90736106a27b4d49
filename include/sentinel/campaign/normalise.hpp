#pragma once
#include <optional>
#include <string>
#include <vector>

#include "sentinel/campaign/setup.hpp"

namespace sentinel {

/// Gives the network the constants that the selection names. Warns where they contradict what the
/// file says (`recorded`). UserError for constants that cannot be.
void choose_normalisation(Graph& graph, const ModelSelection& selection,
                          const std::optional<Normalisation>& recorded);

/// How these images are normalised for the network.
Normalisation normalisation_of(const Graph& graph, const Dataset& images);

/// One log line for all models, or one for each where their constants differ.
void log_normalisation(const std::vector<NamedModel>& models, const Dataset& images);

/// Warns where fault-free answers are no better than guessing: most often the images are not
/// normalised, or the classes not numbered, as in the network's training. `name` of the network.
void warn_if_guessing(const std::string& name, const Graph& graph, const Dataset& images,
                      std::int64_t correct);
/// One log line about the images of a `step` of work such as "calibration", and the warning by the
/// first few of them. Nothing without images.
void report_images(const std::string& step, const NamedModel& model, const Dataset& images,
                   at::Device device);

}  // namespace sentinel
