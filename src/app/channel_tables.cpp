#include "app/channel_tables.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "app/output.hpp"
#include "app/print.hpp"

namespace sentinel {
namespace {

constexpr char kPrefix[] = "channel:";
constexpr std::size_t kShown = 3;  // channels per layer

struct Channel {
  std::string number;
  double failing = 0, accuracy = 0;  // means over trials
  std::uint64_t trials = 0;
};
struct Layer {
  std::string name;
  std::vector<Channel> channels;
};

bool is_channel(const PointInfo& point) {
  return point.fault_model.rfind(kPrefix, 0) == 0;
}

/// "channel:layer1.0.conv1:12" -> "layer1.0.conv1", "12"
std::pair<std::string, std::string> parts_of(const std::string& fault_model) {
  const std::size_t begin = sizeof kPrefix - 1, colon = fault_model.rfind(':');
  return {fault_model.substr(begin, colon - begin), fault_model.substr(colon + 1)};
}

/// By point: channels with trials, from the estimates.
std::map<std::uint32_t, Channel> channels_of(const ResultFile& result) {
  std::map<std::uint32_t, Channel> channels;
  for (const EstimateRow& e : result.estimates) {
    Channel& channel = channels[e.point];
    if (e.quantity == "failing") channel.failing = e.estimate;
    if (e.quantity == "accuracy") channel.accuracy = e.estimate;
    channel.trials = e.trials;
  }
  return channels;
}

std::vector<Layer> layers_of(const ResultFile& result) {
  std::vector<Layer> layers;
  for (auto& [point, channel] : channels_of(result)) {
    const auto [layer, number] = parts_of(result.info.points.at(point).fault_model);
    if (layers.empty() || layers.back().name != layer) layers.push_back({layer, {}});
    layers.back().channels.push_back(channel);
    layers.back().channels.back().number = number;
  }
  return layers;
}

/// "12 (8.33 %), 3 (7.91 %)"
std::string worst_of(const Layer& layer) {
  std::vector<Channel> order = layer.channels;
  std::stable_sort(order.begin(), order.end(),
                   [](const Channel& a, const Channel& b) { return a.failing > b.failing; });
  std::string text;
  for (std::size_t i = 0; i < std::min(kShown, order.size()); ++i)
    text += fmt::format("{}{} ({} %)", i ? ", " : "", order[i].number, percent(order[i].failing));
  return text;
}

std::vector<std::string> row_of(const Layer& layer) {
  Channel sum;
  for (const Channel& channel : layer.channels) {
    sum.failing += channel.failing;
    sum.accuracy += channel.accuracy;
    sum.trials += channel.trials;
  }
  const auto n = static_cast<double>(layer.channels.size());
  return {layer.name,
          std::to_string(layer.channels.size()),
          with_spaces(static_cast<std::int64_t>(sum.trials)),
          percent(sum.failing / n),
          percent(sum.accuracy / n),
          worst_of(layer)};
}

}  // namespace

bool holds_channels(const ResultFile& result) {
  const auto& points = result.info.points;
  return !points.empty() && std::all_of(points.begin(), points.end(), is_channel);
}

void print_channels(const ResultFile& result) {
  std::vector<std::vector<std::string>> rows = {
      {"layer", "channels", "trials", "failing images %", "accuracy %", "worst channels"}};
  for (const Layer& layer : layers_of(result)) rows.push_back(row_of(layer));
  print_table(rows);
  say("\nFailing: DUE or SDC-critical, mean over the trials of a channel; one flipped bit per "
      "trial.\n");
}

}  // namespace sentinel
