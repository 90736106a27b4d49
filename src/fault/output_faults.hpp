#pragma once
#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "sentinel/fault/memory.hpp"

namespace sentinel {

/// The faults of one trial in outputs of nodes, put in while the network runs, and what became of
/// the words they hit. A fault of all images hits each of them.
class OutputFaults {
 public:
  /// No records are made of more faults than `most_records`. Bug where one is none of the space.
  OutputFaults(const FaultSpace& space, const Faults& faults, std::size_t most_records);

  /// Nodes whose outputs for this image are hit, ascending.
  std::vector<NodeId> nodes(std::int64_t image) const;

  /// A place in a batch and the image that is there.
  struct Row {
    std::int64_t row = 0, image = 0;
  };
  /// Puts the faults in this node's output [N, ...] as f32 or, rounded to f32 first, f64. Each
  /// image goes through each node at most once.
  void apply(NodeId node, const std::vector<Row>& rows, at::Tensor& output);

  /// The records. A fault of all images has the words of the first image; it is masked where it is
  /// in every image. Faults that were never put in are masked.
  Reading take();

 private:
  struct Range {
    std::int32_t image = kAllImages;
    std::size_t begin = 0, end = 0;  // in faults_
  };
  /// The faults of one image alone; empty where it has none.
  Range own(std::int64_t image) const;
  std::vector<NodeId> nodes_of(const Range& range) const;
  Range at_node(const Range& range, NodeId node) const;
  void put(std::size_t fault, std::int64_t image, std::vector<float>& words, std::size_t place);
  NodeId node_of(std::size_t fault) const { return space_.tensors()[faults_[fault].tensor].node; }

  const FaultSpace& space_;
  const Faults& faults_;
  std::vector<NodeId> all_nodes_;      // that faults of all images hit
  Range all_;                          // of all images
  std::vector<Range> by_image_;        // ascending
  std::vector<std::int64_t> seen_;     // by fault, the lowest image that was hit; -1: none
  std::vector<std::uint8_t> changed_;  // by fault
  Reading reading_;
};

}  // namespace sentinel
