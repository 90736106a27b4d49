#include "campaign/channel_fi.hpp"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>

#include "campaign/run_trials.hpp"
#include "sentinel/campaign/validation.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/fault/fault_space.hpp"
#include "sentinel/networks/load.hpp"
#include "sentinel/networks/network.hpp"
#include "sentinel/networks/outputs.hpp"
#include "sentinel/networks/selection.hpp"
#include "sentinel/words/misreads.hpp"

namespace sentinel {
namespace {

constexpr std::int64_t kDefaultImages = 256;

bool selected(const ChannelFaultsJob& job, const FaultChannel& channel) {
  return job.layers.empty() ||
         std::find(job.layers.begin(), job.layers.end(), channel.layer) != job.layers.end();
}

void check_layers(const ChannelFaultsJob& job, const std::vector<FaultChannel>& channels) {
  for (const std::string& layer : job.layers)
    if (std::none_of(channels.begin(), channels.end(),
                     [&](const FaultChannel& channel) { return channel.layer == layer; }))
      throw UserError(spelled(Setting::kChannelLayers) + " " + layer +
                      ": the network has no convolution of this name; `profile` lists its layers");
}

/// A score of a channel is that of single flips in its own words.
void check_codes(const ChannelFaultsJob& job, const Graph& graph,
                 const std::vector<FaultChannel>& channels) {
  const FaultSpace space(graph);
  const auto refuse = [](const FaultTensor& tensor, const char* why) {
    throw UserError(fmt::format("{}: {} is stored as {}, where {}; rank by another method",
                                kChannelFaults, tensor.name, layout_name(tensor.layout), why));
  };
  for (const FaultTensor& tensor : space.tensors()) {
    if (std::none_of(channels.begin(), channels.end(), [&](const FaultChannel& channel) {
          return channel.node == tensor.node && selected(job, channel);
        }))
      continue;
    if (block_shape(tensor.layout).words > 1)
      refuse(tensor, "words of several channels are coded together");
    if (corrects_single_flips(tensor.layout)) refuse(tensor, "every single flip is corrected");
  }
}

std::uint64_t trials_of(const ChannelFaultsJob& job, const FaultChannel& channel) {
  if (!selected(job, channel)) return 0;
  return precision_of(job).stops() ? job.sampling.cap
                                   : channel_sample_size(channel.bits, job.sampling);
}

/// A channel that nobody asks for keeps its point, with no trials.
std::vector<CampaignPoint> points_of(const ChannelFaultsJob& job,
                                     const std::vector<FaultChannel>& channels) {
  std::vector<CampaignPoint> points;
  for (const FaultChannel& c : channels) {
    CampaignPoint point{ChannelFaults{c.layer, c.channel}, trials_of(job, c)};
    point.precision = precision_of(job);
    if (point.precision.stops()) point.sampling = Sampling::kAllocated;
    points.push_back(std::move(point));
  }
  return points;
}

/// How the trials are run and stored.
Job campaign_of(const ModelSelection& selection, const RankingJob& ranking) {
  const ChannelFaultsJob& own = ranking.channel_faults;
  Job job;
  job.selection = selection;
  job.compute.threads = at::get_num_threads();  // the caller's choice; the pool's thread needs it
  job.seed = ranking.seed;
  job.precision = precision_of(own);
  job.images_per_trial = own.images_per_trial;
  job.engine = own.engine;
  job.audit = own.audit;
  job.fresh = own.fresh;
  job.output = own.output;
  job.command = own.command;
  job.resolved = own.resolved;
  return job;
}

}  // namespace

ChannelScores run_channel_faults(const Comm& comm, const NamedModel& model,
                                 const ModelSelection& selection, const RankingJob& job,
                                 at::Device device) {
  const Job campaign = campaign_of(selection, job);
  const std::vector<FaultChannel> channels = fault_channels(model.graph);
  comm.agree([&] {
    validate(job.channel_faults);
    check_layers(job.channel_faults, channels);
    check_codes(job.channel_faults, model.graph, channels);
  });
  comm.from_root([&] {
    check_outputs({{campaign.output, FileKind::kResult}}, {selection.checkpoint});
    return Bytes();
  });
  const Dataset images =
      training_images(comm, selection, model.graph.dataset, job.images, kDefaultImages);
  std::vector<NamedModel> models;
  models.push_back({model.name,
                    model.graph.clone(),
                    model.sha256,
                    model.file_sha256,
                    model.recipe,
                    {},
                    model.file});
  const TrialPlan plan{kChannelFaults,
                       models,
                       images,
                       points_of(job.channel_faults, channels),
                       {},
                       restart_advice(Setting::kChannelFresh, Setting::kChannelTrials),
                       true};  // whoever ranks has looked
  const ExitCode code = run_trials(comm, campaign, plan, device);
  if (code == ExitCode::kMismatch)
    throw SharedError(
        code, fmt::format("{}: its audit found a mismatch, so there is no ranking; all trials are "
                          "stored in {}; rank again with {} reference and another {}",
                          kChannelFaults, campaign.output, spelled(Setting::kChannelEngine),
                          spelled(Setting::kChannelTrials)));
  if (code != ExitCode::kDone)
    throw SharedError(code, fmt::format("{} was stopped before every channel had its trials, so "
                                        "there is no ranking yet; run the same command again",
                                        kChannelFaults));
  ChannelScores scores;
  comm.from_root([&] {
    scores = channel_fault_scores(model.graph, read_result(campaign.output));
    return Bytes();
  });
  return scores;
}

}  // namespace sentinel
