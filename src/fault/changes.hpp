#pragma once
#include <map>
#include <vector>

#include "sentinel/fault/memory.hpp"
#include "sentinel/graph/overlay.hpp"

namespace sentinel {

/// Some changes in a row.
struct ChangeRange {
  const ReadChange* first = nullptr;
  const ReadChange* last = nullptr;
  const ReadChange* begin() const { return first; }
  const ReadChange* end() const { return last; }
};

/// Sorted changes, cut where another tensor begins.
std::vector<ChangeRange> by_tensor(const std::vector<ReadChange>& changes);

/// Writes what changes of one tensor say into its values, in any memory format, on any device.
void write(const at::Tensor& values, const ChangeRange& changes, float ReadChange::*value);

/// Rows of a tensor's values with its changes, all of which lie in them. `numbers` are ascending.
at::Tensor changed_rows(const at::Tensor& values, const std::vector<std::int64_t>& numbers,
                        const ChangeRange& changes);

/// The values that a trial reads, for a network without weight bounds. `tensors`: as `changes`
/// number them. Bug where a change is of nothing that a network reads.
Overlay overlay_of(const Graph& graph, const std::vector<StoredTensor>& tensors,
                   const std::vector<ReadChange>& changes);

/// A node with changes, as far as its outputs may be other ones.
struct NodeChange {
  at::Tensor channels;  // [F] i64, ascending: these outputs of a Conv or Linear; undefined: all
  Op clean, faulty;     // the operator that computes them, as the network has it and as it is read
};
/// The same by node: rows alone of a Linear, and of a convolution without groups.
std::map<NodeId, NodeChange> node_changes(const Graph& graph,
                                          const std::vector<StoredTensor>& tensors,
                                          const std::vector<ReadChange>& changes);

/// `base` where two tensors have the same bits, else `changed`.
at::Tensor where_changed(const at::Tensor& clean, const at::Tensor& changed,
                         const at::Tensor& base);

}  // namespace sentinel
