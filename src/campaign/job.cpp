#include "sentinel/campaign/job.hpp"

#include <utility>

#include "sentinel/core/error.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/core/word_table.hpp"
#include "sentinel/graph/outputs.hpp"

namespace sentinel {
namespace {

constexpr NamedValue<FaultsStored> kFaultsStored[] = {
    {"auto", FaultsStored::kAuto}, {"yes", FaultsStored::kYes}, {"no", FaultsStored::kNo}};
constexpr NamedValue<ImagesOf> kImagesOf[] = {{"test", ImagesOf::kTest},
                                              {"held-out", ImagesOf::kHeldOut},
                                              {"first-half", ImagesOf::kFirstHalf},
                                              {"second-half", ImagesOf::kSecondHalf}};

void require(bool holds, const std::string& message) {
  if (!holds) throw UserError(message);
}

}  // namespace

Selection selection_of(const FaultsJob& faults) {
  Selection selection;
  if (faults.list.empty())
    selection.targets = faults.targets;
  else if (faults.lists_outputs)
    selection.targets = {TensorClass::kOutput};
  else
    selection.targets = parse_targets({"parameters"});
  selection.layers = faults.layers;
  selection.bits = faults.bits;
  for (const std::string& text : faults.channels) {
    Selection::Channels own = parse_channels(text);
    for (const Selection::Channels& other : selection.channels)
      require(other.layer != own.layer,
              spelled(Setting::kChannels) + " names layer " + own.layer + " twice");
    selection.channels.push_back(std::move(own));
  }
  selection.words = fault_model_of(faults).of_words();
  require(!selection.words || faults.bits.empty(),
          spelled(Setting::kBits) + ": with " + spelled(Setting::kFaultModel) + " " +
              effect_name(faults.model) +
              " a fault hits a whole word; leave one of the options out");
  return canonical(std::move(selection));
}

FaultModel fault_model_of(const FaultsJob& faults) {
  FaultModel model = faults.model;
  const bool outputs = is_output(faults.targets.at(0));
  require(outputs || !faults.lifetime,
          spelled(Setting::kFaultLifetime) + " " +
              lifetime_name(faults.lifetime.value_or(Lifetime::kImage)) + " is for " +
              spelled(Setting::kFaultTarget) +
              " activation and post: faults in memory last for all images");
  if (outputs) model.lifetime = faults.lifetime.value_or(Lifetime::kImage);
  require(model.of_bits() || !model.of_words(),
          spelled(Setting::kFaultShape) + " " + shape_name(model) + ": with " +
              spelled(Setting::kFaultModel) + " " + effect_name(model) +
              " a fault hits a whole word; leave one of the options out");
  return model;
}

std::size_t most_stored_faults(const FaultsJob& faults) {
  switch (faults.stored) {
    case FaultsStored::kAuto:
      return 10'000;
    case FaultsStored::kYes:
      return SIZE_MAX;
    case FaultsStored::kNo:
      return 0;
  }
  throw Bug("unknown choice of faults to store");
}

ImagesOf parse_images_of(const std::string& word) {
  return parse_word(kImagesOf, Setting::kImagesOf, word);
}

std::string images_of_name(ImagesOf images) {
  return word_for(kImagesOf, images);
}

FaultsStored parse_faults_stored(const std::string& word) {
  return parse_word(kFaultsStored, Setting::kFaultsStored, word);
}

std::string faults_stored_name(FaultsStored stored) {
  return word_for(kFaultsStored, stored);
}

const std::vector<double>& rates_of(const Job& job) {
  return fault_model_of(job.faults).of_bits() ? job.ber : job.faults.event_rate;
}

Precision precision_of(const ChannelFaultsJob& job) {
  return {job.half_width.value_or(0), job.confidence};
}

bool protects(const HardeningPlan& plan) {
  return duplicates(plan.duplication) || plan.restricted || plan.weight_bounds ||
         !plan.store.empty();
}

std::uint64_t planned_trials(const Job& job) {
  if (job.range) return job.range->end;
  return job.trials.value_or(job.precision.stops() ? 1'000'000 : 100);
}

}  // namespace sentinel
