#include "sentinel/protect/channel_faults.hpp"

#include <algorithm>
#include <cmath>

#include "sentinel/core/error.hpp"
#include "sentinel/fault/fault_space.hpp"
#include "sentinel/stats/interval.hpp"

namespace sentinel {
namespace {

/// Over the trials of a channel.
struct Tally {
  Moments failing, correct;  // shares of the images
};

std::vector<Tally> tallies(const ResultFile& result) {
  const double images = static_cast<double>(result.info.models.at(0).images);
  std::vector<Tally> all(result.info.points.size());
  for (const TrialRow& row : result.trials) {
    // Sorted by id within a point. Rows beyond the planned ones are left from before the campaign
    // was shortened.
    if (row.id >= result.info.points.at(row.point).trials) continue;
    Tally& tally = all.at(row.point);
    tally.failing.add((static_cast<double>(row.sdc_critical) + row.due) / images);
    tally.correct.add(row.correct / images);
  }
  return all;
}

void append(LayerScores& layer, const Tally& tally, double confidence) {
  const Interval score = t_interval(tally.failing, confidence, 0, 1);
  layer.scores.push_back(score.estimate);
  layer.sample.lower.push_back(score.lower);
  layer.sample.upper.push_back(score.upper);
  layer.sample.accuracy.push_back(tally.correct.mean());
  layer.sample.trials.push_back(tally.failing.n());
}

}  // namespace

std::uint64_t channel_sample_size(std::uint64_t bits, const ChannelSampling& sampling) {
  const auto n = static_cast<double>(bits);
  const double spread = sampling.t * sampling.t * sampling.p * (1 - sampling.p);
  const double sample = n / (1 + sampling.error * sampling.error * (n - 1) / spread);
  return std::min({bits, sampling.cap, static_cast<std::uint64_t>(std::ceil(sample))});
}

std::vector<FaultChannel> fault_channels(const Graph& graph) {
  const FaultSpace space(graph);
  std::vector<FaultChannel> channels;
  for (const FaultTensor& tensor : space.tensors()) {
    if (!as_conv(graph[tensor.node].op)) continue;
    const std::uint64_t bits = tensor.row * static_cast<std::uint64_t>(word_bits(tensor.codec));
    for (std::uint64_t c = 0; c < tensor.originals / tensor.row; ++c)
      channels.push_back(
          {tensor.node, graph[tensor.node].name, static_cast<std::int64_t>(c), bits});
  }
  return channels;
}

ChannelScores channel_fault_scores(const Graph& graph, const ResultFile& result) {
  const std::vector<FaultChannel> channels = fault_channels(graph);
  if (result.info.points.size() != channels.size())
    throw Bug("the points of channel-FI are not the network's channels");
  const std::vector<Tally> all = tallies(result);
  ChannelScores scores;
  for (std::size_t p = 0; p < channels.size(); ++p) {
    if (result.info.points[p].trials == 0) continue;
    if (scores.empty() || scores.back().node != channels[p].node)
      scores.push_back({channels[p].node, channels[p].layer, {}});
    append(scores.back(), all[p], result.info.confidence);
  }
  return scores;
}

}  // namespace sentinel
