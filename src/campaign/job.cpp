#include "sentinel/campaign/job.hpp"

#include <utility>

#include "sentinel/core/error.hpp"

namespace sentinel {
namespace {

void require(bool holds, const std::string& message) {
  if (!holds) throw UserError(message);
}

}  // namespace

Selection selection_of(const FaultsJob& faults) {
  Selection selection;
  if (faults.list.empty())
    selection.targets = parse_targets(faults.targets);
  else if (faults.lists_outputs)
    selection.targets = {TensorClass::kOutput};
  else
    selection.targets = parse_targets({"parameters"});
  selection.layers = faults.layers;
  selection.bits = faults.bits;
  for (const std::string& text : faults.channels) {
    Selection::Channels own = parse_channels(text);
    for (const Selection::Channels& other : selection.channels)
      require(other.layer != own.layer, "--channels names layer " + own.layer + " twice");
    selection.channels.push_back(std::move(own));
  }
  selection.words = fault_model_of(faults).of_words();
  require(!selection.words || faults.bits.empty(),
          "--bits: with --fault-model " + faults.model +
              " a fault hits a whole word; leave one of the options out");
  return canonical(std::move(selection));
}

FaultModel fault_model_of(const FaultsJob& faults) {
  FaultModel model;
  parse_effect(faults.model, model);
  parse_shape(faults.shape, model);
  Selection selection;
  selection.targets = parse_targets(faults.targets);
  const bool outputs = selects_outputs(selection);
  require(outputs || faults.lifetime.empty(),
          "--fault-lifetime " + faults.lifetime +
              " is for --fault-target activation and post: faults in memory last for all images");
  if (outputs)
    model.lifetime = faults.lifetime.empty() ? Lifetime::kImage : parse_lifetime(faults.lifetime);
  require(model.of_bits() || !model.of_words(),
          "--fault-shape " + faults.shape + ": with --fault-model " + faults.model +
              " a fault hits a whole word; leave one of the options out");
  return model;
}

std::size_t most_stored_faults(const FaultsJob& faults) {
  constexpr std::size_t kUsual = 10'000;
  if (faults.stored == "auto") return kUsual;
  return faults.stored == "yes" ? SIZE_MAX : 0;
}

const std::vector<double>& rates_of(const Job& job) {
  return fault_model_of(job.faults).of_bits() ? job.ber : job.faults.event_rate;
}

bool protects(const HardeningPlan& plan) {
  return plan.duplication.ratio > 0 || plan.restricted || plan.weight_bounds || !plan.store.empty();
}

std::uint64_t planned_trials(const Job& job) {
  if (job.range) return job.range->end;
  return job.trials.value_or(job.half_width > 0 ? 1'000'000 : 100);
}

}  // namespace sentinel
