#include "sentinel/transform/channel_faults.hpp"

#include <algorithm>
#include <cmath>

#include "sentinel/core/error.hpp"
#include "sentinel/fault/fault_space.hpp"

namespace sentinel {
namespace {

/// What the file estimates of a channel.
struct ChannelEstimate {
  const EstimateRow *failing = nullptr, *accuracy = nullptr;
};

/// By point, the last look.
std::vector<ChannelEstimate> estimates_of(const ResultFile& result) {
  std::vector<ChannelEstimate> all(result.info.points.size());
  for (const EstimateRow& row : result.estimates) {
    if (row.quantity == "failing") all.at(row.point).failing = &row;
    if (row.quantity == "accuracy") all.at(row.point).accuracy = &row;
  }
  return all;
}

void append(LayerScores& layer, const ChannelEstimate& channel) {
  if (!channel.failing || !channel.accuracy) throw Bug("a channel's trials have no estimates");
  layer.scores.push_back(channel.failing->estimate);
  layer.sample.lower.push_back(channel.failing->lower);
  layer.sample.upper.push_back(channel.failing->upper);
  layer.sample.accuracy.push_back(channel.accuracy->estimate);
  layer.sample.trials.push_back(channel.failing->trials);
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
    const std::uint64_t bits = tensor.row * tensor.bits.size();
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
  const std::vector<ChannelEstimate> all = estimates_of(result);
  ChannelScores scores;
  for (std::size_t p = 0; p < channels.size(); ++p) {
    if (result.info.points[p].trials == 0) continue;
    if (scores.empty() || scores.back().node != channels[p].node)
      scores.push_back({channels[p].node, channels[p].layer, {}});
    append(scores.back(), all[p]);
  }
  return scores;
}

}  // namespace sentinel
