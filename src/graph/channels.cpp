#include "sentinel/graph/channels.hpp"

#include <algorithm>
#include <numeric>

#include "sentinel/graph/visit.hpp"

namespace sentinel {
namespace {

using Channels = std::vector<std::int64_t>;

ChannelMap one_to_one(Channels source) {
  ChannelMap map;
  map.source = std::move(source);
  return map;
}

/// Output channel o reads input channel o / copies.
ChannelMap repeated(std::int64_t out, std::int64_t copies) {
  Channels source(static_cast<std::size_t>(out));
  for (std::size_t o = 0; o < source.size(); ++o) {
    source[o] = static_cast<std::int64_t>(o) / copies;
  }
  return one_to_one(std::move(source));
}

ChannelMap mixing(std::int64_t groups) {
  ChannelMap map;
  map.mixing = true;
  map.groups = groups;
  return map;
}

ChannelMap conv_map(const Conv& conv, std::int64_t out) {
  if (conv.groups > 1 && conv.weight.size(1) == 1) return repeated(out, out / conv.groups);
  return mixing(conv.groups);
}

ChannelMap shuffle_map(std::int64_t channels, std::int64_t groups) {
  Channels source(static_cast<std::size_t>(channels));
  for (std::int64_t o = 0; o < channels; ++o) {
    source[static_cast<std::size_t>(o)] = (o % groups) * (channels / groups) + o / groups;
  }
  return one_to_one(std::move(source));
}

std::vector<ChannelMap> concat_maps(const Channels& in, std::int64_t out) {
  std::vector<ChannelMap> maps;
  std::int64_t begin = 0;
  for (const std::int64_t channels : in) {
    Channels source(static_cast<std::size_t>(out), -1);
    std::iota(source.begin() + begin, source.begin() + begin + channels, 0);
    maps.push_back(one_to_one(std::move(source)));
    begin += channels;
  }
  return maps;
}

/// Blocks of `channels` that hold one of `chosen`, and all channels of the same blocks of `others`.
Channels whole_blocks(const Channels& chosen, std::int64_t channels, std::int64_t others,
                      std::int64_t groups) {
  std::vector<bool> hit(static_cast<std::size_t>(groups), false);
  for (const std::int64_t c : chosen) hit[static_cast<std::size_t>(c / (channels / groups))] = true;
  Channels result;
  for (std::int64_t c = 0; c < others; ++c) {
    if (hit[static_cast<std::size_t>(c / (others / groups))]) result.push_back(c);
  }
  return result;
}

}  // namespace

std::vector<ChannelMap> channel_maps(const Op& op, const std::vector<std::int64_t>& in_channels,
                                     std::int64_t out_channels) {
  using Maps = std::vector<ChannelMap>;
  const auto same = [&] { return Maps(in_channels.size(), repeated(out_channels, 1)); };
  return std::visit(
      Overloaded{
          [](const Input&) { return Maps{}; },
          [&](const Conv& conv) { return Maps{conv_map(conv, out_channels)}; },
          [&](const DuplicatedConv& conv) { return Maps{conv_map(conv.conv, out_channels)}; },
          [&](const BatchNorm&) { return same(); },
          [&](const Activation&) { return same(); },
          [&](const BoundedActivation&) { return same(); },
          [&](const MaxPool&) { return same(); },
          [&](const AvgPool&) { return same(); },
          [&](const AdaptiveAvgPool&) { return same(); },
          [&](const Add&) { return same(); },
          [&](const Multiply&) { return same(); },
          [&](const ChannelAffine&) { return same(); },
          [&](const Concat&) { return concat_maps(in_channels, out_channels); },
          [&](const Slice& slice) {
            Channels source(static_cast<std::size_t>(out_channels));
            std::iota(source.begin(), source.end(), slice.begin);
            return Maps{one_to_one(std::move(source))};
          },
          [&](const ChannelShuffle& op_) { return Maps{shuffle_map(out_channels, op_.groups)}; },
          [&](const Flatten&) {
            return Maps{repeated(out_channels, out_channels / in_channels.at(0))};
          },
          [](const Linear&) { return Maps{mixing(1)}; },
          [&](const Dropout&) { return same(); },
      },
      op);
}

bool keeps_channels_apart(const Op& op) {
  return std::visit(Overloaded{
                        [](const Input&) { return false; },
                        [](const Conv&) { return false; },
                        [](const DuplicatedConv&) { return false; },
                        [](const BatchNorm&) { return true; },
                        [](const Activation&) { return true; },
                        [](const BoundedActivation&) { return true; },
                        [](const MaxPool&) { return true; },
                        [](const AvgPool&) { return true; },
                        [](const AdaptiveAvgPool&) { return true; },
                        [](const Add&) { return true; },
                        [](const Multiply&) { return true; },
                        [](const ChannelAffine&) { return true; },
                        [](const Concat&) { return false; },
                        [](const Slice&) { return false; },
                        [](const ChannelShuffle&) { return false; },
                        [](const Flatten&) { return false; },
                        [](const Linear&) { return false; },
                        [](const Dropout&) { return true; },
                    },
                    op);
}

std::vector<ChannelMap> channel_maps(const Graph& graph, const std::vector<std::int64_t>& counts,
                                     NodeId id) {
  Channels in;
  for (const NodeId input : graph[id].inputs) in.push_back(counts[static_cast<std::size_t>(input)]);
  return channel_maps(graph[id].op, in, counts[static_cast<std::size_t>(id)]);
}

std::vector<std::int64_t> sources_of(const ChannelMap& map, const std::vector<std::int64_t>& out,
                                     std::int64_t in_channels, std::int64_t out_channels) {
  if (map.mixing) return whole_blocks(out, out_channels, in_channels, map.groups);
  Channels sources;
  for (const std::int64_t o : out) {
    const std::int64_t source = map.source.at(static_cast<std::size_t>(o));
    if (source >= 0) sources.push_back(source);
  }
  std::sort(sources.begin(), sources.end());
  sources.erase(std::unique(sources.begin(), sources.end()), sources.end());
  return sources;
}

std::vector<std::int64_t> readers_of(const ChannelMap& map, const std::vector<std::int64_t>& in,
                                     std::int64_t in_channels, std::int64_t out_channels) {
  if (map.mixing) return whole_blocks(in, in_channels, out_channels, map.groups);
  std::vector<bool> chosen(static_cast<std::size_t>(in_channels), false);
  for (const std::int64_t c : in) chosen.at(static_cast<std::size_t>(c)) = true;
  Channels readers;
  for (std::int64_t o = 0; o < out_channels; ++o) {
    const std::int64_t source = map.source[static_cast<std::size_t>(o)];
    if (source >= 0 && chosen[static_cast<std::size_t>(source)]) readers.push_back(o);
  }
  return readers;
}

}  // namespace sentinel
