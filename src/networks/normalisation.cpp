#include "sentinel/networks/normalisation.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "sentinel/core/setting.hpp"
#include "sentinel/graph/profile.hpp"
#include "sentinel/stats/guessing.hpp"

namespace sentinel {
namespace {

constexpr std::int64_t kLookedAt = 64;  // images, enough to tell guessing by

}  // namespace

void choose_normalisation(Graph& graph, const ModelSelection& selection,
                          const std::optional<Normalisation>& recorded) {
  if (selection.normalisation.empty()) return;
  const Normalisation before =
      normalisation_of(graph).value_or(Normalisation());  // none: a record without a data set
  const Normalisation wanted = chosen(selection.normalisation, before);
  if (recorded && *recorded != wanted)
    spdlog::warn("{} says that its images are normalised by {}; {} and {} win: {}",
                 selection.checkpoint, in_words(*recorded), spelled(Setting::kMean),
                 spelled(Setting::kStd), in_words(wanted));
  set_normalisation(graph, wanted);
}

Normalisation normalisation_of(const Graph& graph, const Dataset& images) {
  return graph.normalisation.value_or(images.info().normalisation());
}

void log_normalisation(const std::vector<NamedModel>& models, const Dataset& images) {
  const Normalisation first = normalisation_of(models.front().graph, images);
  const bool alike = std::all_of(models.begin(), models.end(), [&](const NamedModel& model) {
    return normalisation_of(model.graph, images) == first;
  });
  if (alike) return spdlog::info("images normalised by {}", in_words(first));
  for (const NamedModel& model : models)
    spdlog::info("images of {} normalised by {}", model.name,
                 in_words(normalisation_of(model.graph, images)));
}

void log_images(const std::string& step, const NamedModel& model, const Dataset& images) {
  if (images.size() == 0) return;
  spdlog::info("{}: {} images normalised by {}", step, images.size(),
               in_words(normalisation_of(model.graph, images)));
}

bool warn_if_guessing(const std::string& source, const Graph& graph, const Dataset& images,
                      const Accuracy& accuracy) {
  if (accuracy.logits.constant()) {  // says more than that their arg max is right by chance
    warn_of_constant_logits(source, accuracy.logits);
    return true;
  }
  const std::int64_t classes = class_count(graph);
  if (!looks_like_guessing(accuracy.correct, accuracy.images, classes)) return false;
  spdlog::warn(
      "{}: {} of {} images are right ({:.2f} %), about chance (1 of {} classes: {:.2f} %), with "
      "images normalised by {}; check {} and {}, {} and the order of the classes",
      source, accuracy.correct, accuracy.images,
      100 * static_cast<double>(accuracy.correct) / static_cast<double>(accuracy.images), classes,
      100 / static_cast<double>(classes), in_words(normalisation_of(graph, images)),
      spelled(Setting::kMean), spelled(Setting::kStd), spelled(Setting::kDataset));
  return true;
}

bool warn_if_guessing(const NamedModel& model, const Dataset& images, at::Device device) {
  const Dataset few = images.first(kLookedAt);
  return warn_if_guessing(source_of(model), model.graph, few, evaluate(model.graph, few, device));
}

}  // namespace sentinel
