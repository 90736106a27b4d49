#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "sentinel/graph/graph.hpp"

namespace sentinel {

/// How an operator's output channels depend on the channels of one of its inputs. The one table
/// behind channel groups, sorting, pruning, hardening and sparse propagation.
struct ChannelMap {
  /// Mixing (convolution, linear): output block g of `groups` reads all of input block g; `source`
  /// is empty. Otherwise output channel o reads input channel source[o] only, or nothing of this
  /// input where -1.
  bool mixing = false;
  std::int64_t groups = 1;
  std::vector<std::int64_t> source;
};

/// One map per input. `in_channels`: channels of each input; `out_channels`: of the output. A
/// depthwise convolution (one input channel per group) is not mixing: source[o] = o / multiplier.
std::vector<ChannelMap> channel_maps(const Op& op, const std::vector<std::int64_t>& in_channels,
                                     std::int64_t out_channels);

/// Whether each output channel depends on the input channels of the same number alone.
bool keeps_channels_apart(const Op& op);

/// Maps of a node's inputs; `counts`: channel_counts(graph).
std::vector<ChannelMap> channel_maps(const Graph& graph, const std::vector<std::int64_t>& counts,
                                     NodeId id);

/// Input channels (of input `k`) that output channels in `out` read / output channels that read
/// those in `in`. Sorted, unique. The two are inverse relations.
std::vector<std::int64_t> sources_of(const ChannelMap& map, const std::vector<std::int64_t>& out,
                                     std::int64_t in_channels, std::int64_t out_channels);
std::vector<std::int64_t> readers_of(const ChannelMap& map, const std::vector<std::int64_t>& in,
                                     std::int64_t in_channels, std::int64_t out_channels);

/// One channel of a member: which channel number of that node (its outputs or its inputs) a group
/// channel is.
struct GroupMember {
  NodeId node = 0;
  enum class Side {
    kOut,
    kIn
  } side = Side::kOut;              // kOut: rows of weight, bias, BN entries; kIn: columns
  std::vector<std::int64_t> index;  // group channel g -> channel numbers of the node, concatenated
  std::int64_t copies = 1;          // channel numbers per group channel (h*w behind a Flatten)
};

/// Channels that must be permuted or removed together (Torch-Pruning's DepGraph as data; Fang et
/// al., CVPR 2023). Convolutions' outputs coupled by adds, depthwise convolutions, concats …
struct ChannelGroup {
  std::int64_t channels = 0;
  std::vector<GroupMember> members;  // in execution order
  bool permutable = true;            // false: contains the logits or the network's input
  std::vector<NodeId>
      producers;  // convolutions (and linear layers) whose outputs these are, execution order
};

/// Every group of the graph with at least one convolution or linear layer as producer, execution
/// order.
std::vector<ChannelGroup> channel_groups(const Graph& graph);

/// New order of a node's channels: position i takes the old channel out[i] (in[i]). Channels that
/// are not listed are removed.
struct NodeOrder {
  std::vector<std::int64_t> out, in;
};
/// Permutes everything of a node that is indexed by its output or input channels, and composes
/// Graph::origin. Bug for channels of a grouped convolution that is not depthwise, and for removed
/// ones of a hardened convolution.
void reorder(Graph& graph, NodeId node, const NodeOrder& order);
/// A copy of the graph with every node in its order.
Graph reordered(const Graph& graph, const std::vector<NodeOrder>& orders);

}  // namespace sentinel
