#pragma once
#include <memory>
#include <vector>

#include "fault/output_faults.hpp"
#include "fault/prefix_cache.hpp"

namespace sentinel {

/// A trial with faults in outputs. `logits` [images, classes] hold those without faults, and then
/// those with them; image `first` is their first row.
struct OutputTrial {
  OutputFaults* faults = nullptr;
  std::int64_t first = 0, images = 0;
  at::Tensor logits;
};

/// Runs trials with faults in outputs of nodes. Images of all trials share batches. An image is
/// computed from its first fault on, and there only the values that its faults reach. A value that
/// comes out as without faults ends them. For the CPU.
class OutputRunner {
 public:
  /// `batch`: images that are computed together. Both must outlive this.
  OutputRunner(const FusedNet& net, const PrefixCache& cache, std::int64_t batch);
  void run(const std::vector<OutputTrial>& trials) const;

 private:
  struct Row;
  class Chunk;
  std::vector<Row> rows_of(const std::vector<OutputTrial>& trials) const;
  const FusedNet& net_;
  const PrefixCache& cache_;
  std::int64_t batch_;
  std::vector<NodeId> values_;          // all of the network
  std::vector<std::int64_t> first_of_;  // first image of each block, and their number
};

}  // namespace sentinel
