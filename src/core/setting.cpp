#include "sentinel/core/setting.hpp"

#include <iterator>

namespace sentinel {
namespace {

struct Row {
  Setting setting;
  const char* name;
};
constexpr Row kRows[] = {
    {Setting::kAllCombinations, "all-combinations"},
    {Setting::kAlso, "also"},
    {Setting::kAudit, "audit"},
    {Setting::kBatchSize, "batch-size"},
    {Setting::kBer, "ber"},
    {Setting::kBits, "bits"},
    {Setting::kBoundEpochs, "bound-epochs"},
    {Setting::kBoundRates, "bound-rates"},
    {Setting::kBoundSearch, "bound-search"},
    {Setting::kBoundSeed, "bound-seed"},
    {Setting::kBounds, "bounds"},
    {Setting::kCacheBudget, "cache-budget"},
    {Setting::kCalibrationImages, "calibration-images"},
    {Setting::kChannelAudit, "channel-audit"},
    {Setting::kChannelCap, "channel-cap"},
    {Setting::kChannelConfidence, "channel-confidence"},
    {Setting::kChannelEngine, "channel-engine"},
    {Setting::kChannelError, "channel-error"},
    {Setting::kChannelFresh, "channel-fresh"},
    {Setting::kChannelHalfWidth, "channel-half-width"},
    {Setting::kChannelImagesPerTrial, "channel-images-per-trial"},
    {Setting::kChannelLayers, "channel-layers"},
    {Setting::kChannelP, "channel-p"},
    {Setting::kChannelT, "channel-t"},
    {Setting::kChannelTrials, "channel-trials"},
    {Setting::kChannels, "channels"},
    {Setting::kCheckpoint, "checkpoint"},
    {Setting::kClipping, "clipping"},
    {Setting::kConfidence, "confidence"},
    {Setting::kCorrection, "correction"},
    {Setting::kData, "data"},
    {Setting::kDataset, "dataset"},
    {Setting::kDedicatedDriver, "dedicated-driver"},
    {Setting::kDeepvigorPositions, "deepvigor-positions"},
    {Setting::kDevice, "device"},
    {Setting::kEngine, "engine"},
    {Setting::kEpochs, "epochs"},
    {Setting::kEventRate, "event-rate"},
    {Setting::kFaultCount, "fault-count"},
    {Setting::kFaultLifetime, "fault-lifetime"},
    {Setting::kFaultModel, "fault-model"},
    {Setting::kFaultShape, "fault-shape"},
    {Setting::kFaultTarget, "fault-target"},
    {Setting::kFaults, "faults"},
    {Setting::kFaultsStored, "faults-stored"},
    {Setting::kFinetuneBatchSize, "finetune-batch-size"},
    {Setting::kFinetuneEpochs, "finetune-epochs"},
    {Setting::kFoldBatchNorm, "fold-batch-norm"},
    {Setting::kFresh, "fresh"},
    {Setting::kGroupScore, "group-score"},
    {Setting::kGuaranteed, "guaranteed"},
    {Setting::kHalfWidth, "half-width"},
    {Setting::kHardenedOutput, "hardened-output"},
    {Setting::kHardeningRatio, "hardening-ratio"},
    {Setting::kImages, "images"},
    {Setting::kImagesOf, "images-of"},
    {Setting::kImagesPerTrial, "images-per-trial"},
    {Setting::kImportance, "importance"},
    {Setting::kLayers, "layers"},
    {Setting::kLr, "lr"},
    {Setting::kMean, "mean"},
    {Setting::kModel, "model"},
    {Setting::kMomentum, "momentum"},
    {Setting::kNetwork, "network"},
    {Setting::kNoWeightBounds, "no-weight-bounds"},
    {Setting::kOutput, "output"},
    {Setting::kOverhead, "overhead"},
    {Setting::kPoint, "point"},
    {Setting::kPruningRatio, "pruning-ratio"},
    {Setting::kPruningRatios, "pruning-ratios"},
    {Setting::kPublish, "publish"},
    {Setting::kRankingImages, "ranking-images"},
    {Setting::kRepeat, "repeat"},
    {Setting::kSampling, "sampling"},
    {Setting::kSelect, "select"},
    {Setting::kSelection, "selection"},
    {Setting::kShareGpu, "share-gpu"},
    {Setting::kSingleBit, "single-bit"},
    {Setting::kStd, "std"},
    {Setting::kStore, "store"},
    {Setting::kThreads, "threads"},
    {Setting::kTrialRange, "trial-range"},
    {Setting::kTrials, "trials"},
    {Setting::kTrialsAtOnce, "trials-at-once"},
    {Setting::kWeightBounds, "weight-bounds"},
    {Setting::kWeightDecay, "weight-decay"},
    {Setting::kWeightsKey, "weights-key"},
    {Setting::kWorkspace, "workspace"},
};

constexpr bool rows_in_order() {
  for (std::size_t i = 0; i < std::size(kRows); ++i)
    if (kRows[i].setting != static_cast<Setting>(i)) return false;
  return std::size(kRows) == static_cast<std::size_t>(Setting::kCount);
}
static_assert(rows_in_order(), "a row for every setting, in their order");

std::string (*chosen_spelling)(Setting) = plain_name;

}  // namespace

std::string plain_name(Setting setting) {
  return kRows[static_cast<std::size_t>(setting)].name;
}

std::string spelled(Setting setting) {
  return chosen_spelling(setting);
}

void spell_settings(std::string (*spelling)(Setting)) {
  chosen_spelling = spelling;
}

}  // namespace sentinel
