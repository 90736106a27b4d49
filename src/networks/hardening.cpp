#include "sentinel/networks/hardening.hpp"

#include <fmt/format.h>

#include "networks/everywhere.hpp"
#include "networks/reuse.hpp"
#include "sentinel/core/hash.hpp"
#include "sentinel/graph/rules.hpp"
#include "sentinel/networks/load.hpp"
#include "sentinel/networks/normalisation.hpp"

namespace sentinel {
namespace {

/// None where nothing is calibrated.
Dataset calibration_images(const Comm& comm, const NamedModel& model,
                           const ModelSelection& selection, const HardeningPlan& plan,
                           std::int64_t images) {
  const bool intervals =
      plan.duplication.ratio > 0 && plan.duplication.correction == Correction::kRange;
  const std::string& dataset = model.graph.dataset;
  if (!plan.restricted && !intervals) return Dataset(dataset_info(dataset), {}, {});
  return load_dataset(comm, selection, dataset, Split::kTrain, images);
}

std::string duplication_text(const DuplicationPlan& plan) {
  if (plan.ratio == 0) return "no duplication";
  std::string text = fmt::format("ratio {:.17g}, {} selection, {} correction", plan.ratio,
                                 plan.layout == RowLayout::kOwn ? "own" : "group",
                                 plan.correction == Correction::kRange ? "range" : "min");
  if (plan.layout == RowLayout::kGroup)
    text += plan.group_score == GroupScore::kMean ? ", mean group score" : ", first group score";
  return text;
}

/// Everything that decides the bits of a hardened model.
std::string recipe_of(const NamedModel& model, const ChannelScores& scores,
                      const HardeningPlan& plan, const Dataset& calibration) {
  std::string text = duplication_text(plan.duplication);
  if (plan.restricted)
    text += fmt::format(", {} per {}", rules::clipping_name(plan.clipping),
                        rules::bounds_name(plan.bounds));
  if (plan.restricted && plan.search.method != BoundMethod::kMax)
    text += ", bounds by " + bound_search_text(plan.search);
  if (plan.weight_bounds)
    text += fmt::format(", weights bounded per {}",
                        *plan.weight_bounds == WeightBoundsPer::kLayer ? "layer" : "channel");
  for (const StoreRule& rule : plan.store) text += ", stored as " + rule.text;
  if (plan.fold_batch_norm) text += ", batch norm folded";
  return text + fmt::format(", calibrated on {} images {:.12}, scores {:.12}, of network {:.12}",
                            calibration.size(), calibration.hash(), hash_of(scores), model.sha256);
}

}  // namespace

NamedModel make_hardened(const Comm& comm, const NamedModel& model, const ModelSelection& selection,
                         const ChannelScores& scores, const HardeningPlan& plan,
                         std::int64_t images, at::Device device, const std::string& command,
                         const std::string& reuse, const FindBounds& find) {
  require_fault_free(comm, model);
  const Dataset calibration = calibration_images(comm, model, selection, plan, images);
  if (comm.rank() == 0) log_images("calibration", model, calibration);
  const std::string recipe = recipe_of(model, scores, plan, calibration);
  Bytes file = comm.from_root([&] { return made_by(recipe, reuse); });
  if (file.empty()) {
    const Graph graph = harden(model.graph, scores, plan, calibration, comm, device, find);
    // Ranks on other processors may calibrate to other last bits: rank 0's result holds.
    file = comm.from_root([&] {
      return serialize_model(graph,
                             {{model.file_sha256}, command, 0, recipe, network_sha256(graph)});
    });
  }
  NamedModel hardened = parse_everywhere(comm, file, "hardened network", {});
  hardened.name = name_of(hardened.graph, "");
  hardened.file_sha256 = sha256_hex(file.data(), file.size());
  hardened.recipe = recipe;
  if (comm.rank() == 0) hardened.made = std::move(file);
  return hardened;
}

}  // namespace sentinel
