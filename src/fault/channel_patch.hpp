#pragma once
#include <array>
#include <optional>
#include <vector>

#include "fault/channel_route.hpp"
#include "fault/prefix_cache.hpp"
#include "sentinel/fault/memory.hpp"

namespace sentinel {

/// An output channel of a convolution.
struct ChannelId {
  NodeId conv = -1;  // -1: none
  std::int64_t channel = 0;
};

/// A trial whose faults all lie in the rows of one output channel.
struct PatchTrial {
  std::int64_t channel = 0;
  at::Tensor rows;  // faulty, [1 or 2 (of a duplicated channel), in/groups, kh, kw]
  std::size_t first_block = 0, last_block = 0;  // [first, last)
  at::Tensor logits;  // [images, classes] of these blocks; first the fault-free ones, then its own
};

/// Runs trials with faults in one output channel each, on the CPU. The channel is computed from its
/// whole filter, never by a difference of weights. Where its new values have the bits that the same
/// computation gives without faults, the fault-free outputs stay. Images without any other value
/// keep their fault-free logits, and so do those of which the next convolutions notice nothing.
/// The images that are left, of all trials, are run in batches. Not thread safe.
class ChannelPatcher {
 public:
  /// Both must outlive this. `batch`: images run at once.
  ChannelPatcher(const FusedNet& net, const PrefixCache& cache, std::int64_t batch);

  /// The channel whose weights are all that changes; none where there is no such, or it cannot be
  /// patched.
  ChannelId channel_of(const std::vector<StoredTensor>& tensors,
                       const std::vector<ReadChange>& changes) const;
  /// The channel's rows with these changes, all of which lie in them.
  at::Tensor rows(const ChannelId& id, const std::vector<ReadChange>& changes = {}) const;
  /// Trials of one convolution. A trial's logits do not depend on which others are there.
  void run(NodeId conv, std::vector<PatchTrial>& trials) const;

 private:
  struct Batch;
  struct Pairs;
  struct Waiting;
  void run_block(const ChannelRoute& route, std::size_t block,
                 const std::vector<PatchTrial*>& trials, std::array<Waiting, 2>& waiting) const;
  void follow(const ChannelRoute& route, Batch& batch) const;
  at::Tensor channel_outputs(const ChannelRoute& route, const at::Tensor& x,
                             const std::vector<std::int64_t>& channels,
                             const std::vector<at::Tensor>& rows) const;
  std::array<Pairs, 2> find_pairs(const ChannelRoute& route, const Batch& batch) const;
  Trace start(const ChannelRoute& route, const Batch& batch, Pairs& pairs, bool mixing) const;
  bool mixes(const ChannelRoute& route, NodeId value) const;
  void flush(const ChannelRoute& route, Waiting& waiting) const;

  const FusedNet& net_;
  const PrefixCache& cache_;
  std::int64_t batch_;
  std::vector<std::optional<ChannelRoute>> routes_;  // by node
  std::vector<std::int64_t> first_image_;            // of each block, and the number of all
};

}  // namespace sentinel
