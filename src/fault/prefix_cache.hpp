#pragma once
#include "sentinel/fault/fault_space.hpp"
#include "sentinel/graph/fused.hpp"

namespace sentinel {

/// Fault-free values from which a trial may start late: a set of cuts (nodes to start at), and per
/// block of images the values that are live at any of them. Where the budget allows all others too:
/// trials with faults in one channel read them.
class PrefixCache {
 public:
  /// Runs the fault-free network once. `blocks`: images of each block [n, C, H, W]; `budget`:
  /// [bytes], the images not counted. The network must outlive this.
  PrefixCache(const FusedNet& net, std::vector<at::Tensor> blocks, std::uint64_t budget);

  /// Fault-free logits of each block [n, classes], on the network's device.
  const std::vector<at::Tensor>& logits() const { return logits_; }
  /// The nearest cut at or before a node.
  NodeId cut_before(NodeId node) const;
  /// What a run from that cut reads.
  Trace start(std::size_t block, NodeId cut) const;
  /// Fault-free values `nodes`, of which those before `from` are live there: from the cache, or
  /// computed from the nearest cut where one is not kept.
  Trace outputs(std::size_t block, NodeId from, const std::vector<NodeId>& nodes) const;
  /// Whether every value of the network is kept.
  bool keeps_all() const;
  std::size_t blocks() const { return traces_.size(); }
  const std::vector<NodeId>& cuts() const { return cuts_; }
  std::uint64_t bytes() const { return bytes_; }

 private:
  void choose_cuts(std::int64_t images, std::uint64_t budget);
  std::uint64_t cost(const std::vector<NodeId>& cuts, const std::vector<NodeId>& others) const;
  at::Tensor fill(Trace& trace) const;

  const FusedNet& net_;
  std::vector<NodeId> cuts_;               // ascending, cuts_[0] = 0: the images
  std::vector<std::vector<NodeId>> live_;  // per cut the values a run from there reads
  std::vector<bool> kept_;                 // by node
  std::vector<Trace> traces_;              // per block
  std::vector<at::Tensor> logits_;
  std::uint64_t bytes_ = 0;
};

}  // namespace sentinel
