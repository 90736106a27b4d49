#pragma once
#include <map>
#include <vector>

#include "fault/changes.hpp"
#include "fault/output_faults.hpp"
#include "fault/prefix_cache.hpp"

namespace sentinel {

/// A trial with changes in memory or with faults in outputs. `logits` [images, classes] hold those
/// without faults, and then those with them.
struct BatchedTrial {
  NodeId first = 0;                             // the first value of which a part is hit
  std::size_t first_block = 0, last_block = 0;  // [first, last)
  at::Tensor logits;
  std::vector<ReadChange> changes = {};
  OutputFaults* outputs = nullptr;
};

/// Runs T trials at once, by LibTorch's operators: their images are one batch of T x N images per
/// block, trial after trial. That fills a GPU.
///
/// Trials of a batch have their first fault in the same value, from which on all is run. A node
/// that trials change is computed for all images without changes first. Then each trial's changed
/// channels are computed anew, from its own images and with its own weights. Where that gives the
/// bits that the same computation gives without changes, those of the batch stay. So nothing that
/// a trial computes depends on its companions. Short batches are filled with trials without faults.
class BatchRunner {
 public:
  /// `tensors`: of the network's memory; `trials`: T. The first two must outlive this.
  /// EnvironmentError where a batch does not fit the device's memory.
  BatchRunner(const FusedNet& net, const PrefixCache& cache, std::vector<StoredTensor> tensors,
              std::int64_t trials);
  /// Waits for the device. EnvironmentError where it treats equal images of a batch differently.
  void run(std::vector<BatchedTrial>& trials);

 private:
  struct Batch;
  void run_batch(NodeId first, const std::vector<BatchedTrial*>& trials);
  std::map<NodeId, NodeChange> changes_of(const BatchedTrial& trial) const;
  at::Tensor step(const Batch& batch, NodeId node, const std::vector<at::Tensor>& in) const;
  at::Tensor logits(const Batch& batch) const;
  const at::Tensor& fault_free(NodeId first, std::size_t block);

  const FusedNet& net_;
  const PrefixCache& cache_;
  std::vector<StoredTensor> tensors_;
  std::int64_t trials_;
  Graph host_;                                                       // the network on the CPU
  std::vector<std::int64_t> first_image_;                            // of each block
  std::map<std::pair<NodeId, std::size_t>, at::Tensor> fault_free_;  // logits by value and block
};

}  // namespace sentinel
