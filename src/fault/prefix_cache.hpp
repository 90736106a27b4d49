#pragma once
#include "sentinel/fault/fault_space.hpp"
#include "sentinel/graph/run.hpp"

namespace sentinel {

/// Fault-free node outputs from which a trial may start late: a set of cuts (nodes to start at),
/// and per block of images the outputs that are live at any of them.
class PrefixCache {
 public:
  /// Runs the fault-free network once. `blocks`: images of each block [n, C, H, W]; `budget`:
  /// [bytes], the images not counted.
  PrefixCache(const Graph& graph, std::vector<at::Tensor> blocks, std::uint64_t budget);

  /// Fault-free logits of each block [n, classes], on the graph's device.
  const std::vector<at::Tensor>& logits() const { return logits_; }
  /// The nearest cut at or before a node.
  NodeId cut_before(NodeId node) const;
  /// What a run from that cut reads.
  Trace start(std::size_t block, NodeId cut) const;
  /// Fault-free outputs of `nodes`, each of which nodes from `from` on read: from the cache, or
  /// computed from the nearest cut where one is not kept. The graph must be free of faults.
  Trace outputs(const Graph& graph, std::size_t block, NodeId from,
                const std::vector<NodeId>& nodes) const;
  std::size_t blocks() const { return traces_.size(); }
  const std::vector<NodeId>& cuts() const { return cuts_; }
  std::uint64_t bytes() const { return bytes_; }

 private:
  void choose_cuts(const Graph& graph, std::int64_t images, std::uint64_t budget);
  at::Tensor fill(const Graph& graph, Trace& trace) const;

  std::vector<NodeId> cuts_;               // ascending, cuts_[0] = 0: the images
  std::vector<std::vector<NodeId>> live_;  // per cut the nodes a run from there reads
  std::vector<bool> kept_;                 // nodes in any of live_
  std::vector<Trace> traces_;              // per block
  std::vector<at::Tensor> logits_;
  std::uint64_t bytes_ = 0;
};

}  // namespace sentinel
