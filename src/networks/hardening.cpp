#include "sentinel/networks/hardening.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "networks/everywhere.hpp"
#include "networks/reuse.hpp"
#include "sentinel/core/hash.hpp"
#include "sentinel/graph/rules.hpp"
#include "sentinel/networks/load.hpp"
#include "sentinel/networks/normalisation.hpp"
#include "sentinel/transform/folding.hpp"

namespace sentinel {
namespace {

/// None where nothing is calibrated.
Dataset calibration_images(const Comm& comm, const NamedModel& model,
                           const ModelSelection& selection, const HardeningPlan& plan,
                           std::int64_t images) {
  const bool intervals =
      duplicates(plan.duplication) && plan.duplication.correction == Correction::kRange;
  const std::string& dataset = model.graph.dataset;
  if (!plan.restricted && !intervals) return Dataset(dataset_info(dataset), {}, {});
  return load_dataset(comm, selection, dataset, Split::kTrain, images);
}

const char* word_of(OverheadOf of) {
  return of == OverheadOf::kParameters ? "parameters" : "MACs";
}

std::string overhead_text(const Overhead& overhead) {
  return fmt::format("overhead {:.17g} of the {}{}", overhead.share, word_of(overhead.of),
                     overhead.scale == ScoreScale::kFlip ? " by scores of flips" : "");
}

std::string duplication_text(const DuplicationPlan& plan) {
  if (!duplicates(plan)) return "no duplication";
  std::string text = fmt::format(
      "{}, {} selection, {} correction",
      plan.overhead ? overhead_text(*plan.overhead) : fmt::format("ratio {:.17g}", plan.ratio),
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

/// What became of an overhead: how much is used, where.
void log_overhead(const Graph& graph, const Graph& hardened, const Overhead& overhead) {
  std::size_t channels = 0, copies = 0, layers = 0, convolutions = 0;
  for (const Node& node : hardened.nodes()) {
    if (!as_conv(node.op)) continue;
    ++convolutions;
    channels += static_cast<std::size_t>(out_channels_of(node.op));
    const auto* twice = std::get_if<DuplicatedConv>(&node.op);
    if (!twice) continue;
    ++layers;
    copies += twice->duplicated.size();
  }
  const double reached = static_cast<double>(cost_of_copies(hardened, overhead.of)) /
                         static_cast<double>(cost_of(graph, overhead.of));
  spdlog::info(
      "duplication: {} of {} channels, in {} of {} convolutions; {} {:.4f} of those before, at "
      "most {:g} were allowed",
      copies, channels, layers, convolutions, word_of(overhead.of), 1 + reached,
      1 + overhead.share);
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
    Folding folding;
    const Graph graph =
        harden(model.graph, scores, plan, calibration, comm, device, find, &folding);
    if (plan.fold_batch_norm && comm.rank() == 0) spdlog::info(in_words(folding));
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
  if (const auto& overhead = plan.duplication.overhead; overhead && comm.rank() == 0)
    log_overhead(model.graph, hardened.graph, *overhead);
  return hardened;
}

}  // namespace sentinel
