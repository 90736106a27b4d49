#include <algorithm>
#include <vector>

#include "sentinel/core/error.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/core/word_table.hpp"
#include "sentinel/transform/harden.hpp"
#include "sentinel/transform/train.hpp"

namespace sentinel {
namespace {

constexpr NamedValue<BestOn> kBestOn[] = {{"held-out", BestOn::kHeldOut}, {"test", BestOn::kTest}};

}  // namespace

BestOn parse_best_on(const std::string& word) {
  return parse_word(kBestOn, Setting::kSelect, word);
}

std::string best_on_name(BestOn best_on) {
  return word_for(kBestOn, best_on);
}

HeldOut hold_out(const Dataset& images) {
  const std::int64_t fitted = images.size() - std::max<std::int64_t>(1, images.size() / 10);
  return {images.part(0, fitted), images.part(fitted, images.size())};
}

bool fit(Graph& graph, const Dataset& images, const Dataset& test, BestOn best_on,
         const TrainOptions& options, const OnEpoch& report) {
  const bool holds_out = best_on == BestOn::kHeldOut;
  if (holds_out && images.size() < 2) {
    throw UserError(spelled(Setting::kSelect) + " held-out needs at least two training images");
  }
  const HeldOut parts = holds_out ? hold_out(images) : HeldOut{images, test};
  require_named(options.store, graph);
  const Layouts layouts = layouts_by(options.store, graph);
  // Old bounds would cut what the network learns, and not fit it afterwards.
  remove_limits(graph);
  if (!train(graph, parts.fitted, parts.held_out, options, report)) return false;
  recalibrate(graph, images, Comm::local(), options.device);
  lay_out_bounds(graph, layouts);
  return true;
}

}  // namespace sentinel
