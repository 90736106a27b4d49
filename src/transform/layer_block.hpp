#pragma once
#include <optional>
#include <vector>

#include "sentinel/io/dataset.hpp"
#include "transform/tolerance_search.hpp"

namespace sentinel {

/// Fault-free values around one layer, of one block of images after the other. Keeps those of the
/// last block, which the next part of the work is likely to need.
class LayerBlock {
 public:
  /// A copy of the graph goes to the device. `images` must outlive this.
  LayerBlock(const Graph& graph, const Dataset& images, at::Device device);
  LayerBlock(const LayerBlock&) = delete;
  LayerBlock& operator=(const LayerBlock&) = delete;

  /// False where it is there already.
  bool go_to(NodeId layer, std::int64_t block);
  const Graph& graph() const { return graph_; }  // channels_last, on the device
  const Trace& trace() const { return trace_; }  // trace_around the layer
  /// Searches units of the layer on the images of the block. DataError as ToleranceSearch says.
  ToleranceSearch search(std::vector<FactorUnit> units, int steps, ToleranceRule rule) const;

 private:
  Graph graph_;
  FusedNet net_;
  const Dataset& images_;
  at::Device device_;
  NodeId layer_ = 0;
  std::int64_t block_ = -1;  // none yet
  Trace trace_;
};

}  // namespace sentinel
