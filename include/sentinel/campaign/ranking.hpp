#pragma once
#include <string>
#include <vector>

#include "sentinel/campaign/job.hpp"
#include "sentinel/comm/comm.hpp"
#include "sentinel/networks/load.hpp"
#include "sentinel/networks/network.hpp"
#include "sentinel/networks/normalisation.hpp"
#include "sentinel/networks/outputs.hpp"
#include "sentinel/networks/selection.hpp"

namespace sentinel {

/// Notes in the job which method its ranking file is by, and which channels its scores compare;
/// warns where an overhead needs more. Collective.
void note_method(const Comm& comm, ProtectionJob& job);

/// The scores that the job's ranking file or importance method gives; reads the training images
/// where the method wants some. Collective.
ChannelScores channel_scores(const Comm& comm, const NamedModel& model,
                             const ModelSelection& selection, const RankingJob& job,
                             at::Device device);

/// The file in which a ranking keeps its trials, where it has one.
std::vector<Output> channel_outputs(const RankingJob& job);

/// Whether a ranking runs the network on training images.
bool ranks_by_images(const RankingJob& job);
/// Before a network is ranked or calibrated by training images: looks at its answers to the first
/// of them, as require_fault_free and warn_if_guessing. Collective; SharedErrors.
void look_at_training_images(const Comm& comm, const NamedModel& model,
                             const ModelSelection& selection, at::Device device);

}  // namespace sentinel
