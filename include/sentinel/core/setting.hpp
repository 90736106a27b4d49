#pragma once
#include <string>

namespace sentinel {

/// The settings that messages name.
enum class Setting {
  kAllCombinations,
  kAlso,
  kAudit,
  kBatchSize,
  kBer,
  kBits,
  kBoundEpochs,
  kBoundRates,
  kBoundSearch,
  kBoundSeed,
  kBounds,
  kCacheBudget,
  kCalibrationImages,
  kChannelAudit,
  kChannelCap,
  kChannelConfidence,
  kChannelEngine,
  kChannelError,
  kChannelFresh,
  kChannelHalfWidth,
  kChannelImagesPerTrial,
  kChannelLayers,
  kChannelP,
  kChannelT,
  kChannelTrials,
  kChannels,
  kCheckpoint,
  kClipping,
  kConfidence,
  kCorrection,
  kData,
  kDataset,
  kDedicatedDriver,
  kDeepvigorPositions,
  kDevice,
  kEngine,
  kEpochs,
  kEventRate,
  kFaultCount,
  kFaultLifetime,
  kFaultModel,
  kFaultShape,
  kFaultTarget,
  kFaults,
  kFaultsStored,
  kFinetuneBatchSize,
  kFinetuneEpochs,
  kFoldBatchNorm,
  kFresh,
  kGroupScore,
  kGuaranteed,
  kHalfWidth,
  kHardenedOutput,
  kHardeningRatio,
  kImages,
  kImagesOf,
  kImagesPerTrial,
  kImportance,
  kLayers,
  kLr,
  kMean,
  kModel,
  kMomentum,
  kNetwork,
  kNoWeightBounds,
  kOutput,
  kOverhead,
  kPoint,
  kPruningRatio,
  kPruningRatios,
  kPublish,
  kRankingImages,
  kRepeat,
  kSampling,
  kSelect,
  kSelection,
  kShareGpu,
  kSingleBit,
  kStd,
  kStore,
  kThreads,
  kTrialRange,
  kTrials,
  kTrialsAtOnce,
  kWeightBounds,
  kWeightDecay,
  kWeightsKey,
  kWorkspace,
  kCount  // how many there are
};

/// As job files and stored results call it, such as "half-width".
std::string plain_name(Setting setting);

/// The name of a setting as messages say it: the plain one, unless spell_settings() said otherwise.
std::string spelled(Setting setting);

/// Chooses how messages name settings, such as by options of a command line. Call it before other
/// threads start, and alike on all ranks.
void spell_settings(std::string (*spelling)(Setting));

}  // namespace sentinel
