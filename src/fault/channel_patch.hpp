#pragma once
#include <optional>
#include <vector>

#include "fault/prefix_cache.hpp"

namespace sentinel {

/// How a fault in one filter of a convolution spreads up to the next node with a weight. On the way
/// there it stays in the filter's output channel; only that channel need be computed.
struct PatchRoute {
  NodeId conv = 0;
  NodeId resume = 0;            // the next node with a weight: from there all channels are run
  std::vector<NodeId> path;     // the affected nodes before it, ascending; the first is conv
  std::vector<NodeId> changed;  // those of them that nodes from `resume` on read
  std::vector<NodeId> given;    // fault-free outputs that path or nodes from `resume` on read
};
/// Nothing where the node is no plain convolution, is the last with a weight, or the fault leaves
/// its channel before the next weight (concatenation, flattening of maps).
std::optional<PatchRoute> patch_route(const Graph& graph, NodeId conv);

/// A row of a convolution's weight.
struct FilterId {
  NodeId conv = -1;  // -1: none
  std::int64_t channel = 0;
  bool operator==(const FilterId& o) const { return conv == o.conv && channel == o.channel; }
};

/// Runs trials whose faults all lie in one filter of a convolution (design 06, "Touch few
/// channels", "Stop early"). The channel is computed from the whole filter, never by a difference
/// of weights. Where its new values are bitwise those that the same computation gives without
/// faults, the fault-free outputs stay; images without any other value keep their fault-free logits
/// without being run. Not thread safe.
class ChannelPatcher {
 public:
  /// Both must outlive this; the graph is the cache's.
  ChannelPatcher(const Graph& graph, const PrefixCache& cache);

  /// The filter that holds all the faults; none where there is no such or it cannot be patched.
  FilterId filter_of(const FaultSpace& space, const Faults& faults) const;
  /// The filter as the graph holds it now, [1, in/groups, kh, kw].
  at::Tensor filter(const FilterId& id) const;
  /// Logits of the blocks [first, last) with the filter replaced; the graph must be free of faults.
  std::vector<at::Tensor> logits(const FilterId& id, const at::Tensor& filter, std::size_t first,
                                 std::size_t last);

 private:
  at::Tensor block_logits(std::size_t block, const PatchRoute& route, std::int64_t channel,
                          const at::Tensor& filter);
  Trace channel_outputs(const PatchRoute& route, const Trace& given, std::int64_t channel,
                        const at::Tensor& filter) const;

  const Graph& graph_;
  const PrefixCache& cache_;
  std::vector<std::optional<PatchRoute>> routes_;  // by node
  // Fault-free outputs of the last channel by block, as its next trial wants them again.
  FilterId clean_of_;
  std::vector<Trace> clean_;
};

}  // namespace sentinel
