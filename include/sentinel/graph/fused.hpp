#pragma once
#include <functional>
#include <vector>

#include "sentinel/graph/overlay.hpp"
#include "sentinel/graph/run.hpp"

namespace sentinel {

/// Whether every copy of a duplicated channel is stored as its original, bias included: then they
/// agree by definition (see correct).
bool copies_agree(const DuplicatedConv& op);

/// Some channels [F] of a tensor [C]; one for all channels ([], or undefined) stays as it is.
at::Tensor of_channels(const at::Tensor& per_channel, const at::Tensor& channels);

/// LibTorch takes other kernels for one image, and for fewer than this where a window is one value;
/// these may round otherwise.
inline constexpr std::int64_t kImagesAlike = 16;

/// A tensor [N, C, H, W] in channels_last, [N, C] contiguous. One format for all, in its strides
/// too: those of maps of one value, or of one channel, fit both formats, and LibTorch chooses
/// kernels by them.
at::Tensor in_rows(const at::Tensor& x);

/// A network as the trial engine runs it. Batch normalisation, add and activation in a row are one
/// value, computed in one pass over the memory. On the CPU our own kernels do it; elsewhere
/// LibTorch's operators, one by one. Same values as `run` up to rounding. On the CPU an image's
/// values are the same whatever else is in the batch.
///
/// Copies of duplicated channels whose stored rows are equal are not computed on the CPU.
/// Tensors are read from an overlay where it has them. Without one, batch normalisation and bounds
/// of activations are as they were when this was made.
class FusedNet {
 public:
  /// The graph must outlive this; convolution weights in channels_last.
  explicit FusedNet(const Graph& graph);

  const Graph& graph() const { return graph_; }
  /// The nodes that a value stands for, in order; empty for a node that is part of a later value.
  const std::vector<NodeId>& parts(NodeId id) const { return values_[index(id)].parts; }
  /// The value that a node is a part of.
  NodeId value_of(NodeId node) const { return value_of_[index(node)]; }
  /// The first value that any of these nodes is a part of. A value has the number of its last node,
  /// so that the first node's need not be it. At least one node.
  NodeId first_value(const std::vector<NodeId>& nodes) const;
  bool is_value(NodeId id) const { return id == 0 || !parts(id).empty(); }
  /// The values that a value is computed from.
  const std::vector<NodeId>& inputs(NodeId id) const { return values_[index(id)].inputs; }
  /// The last value that reads a value, 0 where none does.
  NodeId last_reader(NodeId id) const { return values_[index(id)].last_reader; }
  /// Values before `from` that `from` or later ones read.
  std::vector<NodeId> live_at(NodeId from) const;

  /// One value; an input that nobody else can see may be overwritten.
  at::Tensor compute(NodeId id, std::vector<at::Tensor> in, const Overlay& overlay = {}) const;
  /// Computes one node from its inputs.
  using Step = std::function<at::Tensor(NodeId, const std::vector<at::Tensor>&)>;
  /// One value, its parts one after the other.
  at::Tensor compute_parts(NodeId id, const std::vector<at::Tensor>& in, const Step& step) const;
  /// One value by LibTorch's operators, of some of its channels alone (numbers [F] i64): `in` and
  /// the result [N, F, ...]. Only where every part keeps channels apart.
  at::Tensor compute_channels(NodeId id, const std::vector<at::Tensor>& in,
                              const at::Tensor& channels) const;
  /// One value by LibTorch's operators, with the output of each of its parts shown. Bits depend on
  /// the batch where it has fewer than kImagesAlike images.
  at::Tensor compute_shown(NodeId id, const std::vector<at::Tensor>& in,
                           const OnOutput& on_output) const;
  /// Computes the values from … end that the trace does not hold and drops each after its last
  /// reader. What of `trace` nobody else holds may be overwritten. Returns the logits.
  at::Tensor run(Trace trace, NodeId from, const Overlay& overlay = {}) const;

 private:
  /// As in kernels::Epilogue; empty: none.
  struct Constants {
    std::vector<float> scale, shift, bound;
    std::vector<std::uint8_t> one_rounding;
  };
  struct Value {
    std::vector<NodeId> parts, inputs;
    NodeId last_reader = 0;
    Constants constants;  // without an overlay
  };
  static std::size_t index(NodeId id) { return static_cast<std::size_t>(id); }
  void fuse(NodeId id, const std::vector<std::vector<NodeId>>& readers);
  const Op& op(NodeId node, const Overlay& overlay) const;
  Constants constants_of(const Value& value, const Overlay& overlay) const;
  at::Tensor linear(NodeId node, const at::Tensor& x, const Overlay& overlay) const;
  at::Tensor in_one_pass(const Value& value, std::vector<at::Tensor>& in,
                         const Overlay& overlay) const;

  const Graph& graph_;
  std::vector<Value> values_;     // by the last of the nodes that they stand for
  std::vector<NodeId> value_of_;  // by node, the value that it is a part of
};

}  // namespace sentinel
