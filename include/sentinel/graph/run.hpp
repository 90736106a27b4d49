#pragma once
#include <functional>
#include <vector>

#include "sentinel/core/rng.hpp"
#include "sentinel/graph/graph.hpp"

namespace sentinel {

/// One tensor per node: its output. Undefined where not computed.
using Trace = std::vector<at::Tensor>;

/// Images that a pass over a data set computes together. Sums are rounded per block of so many, so
/// that every number of ranks gives the same bits.
constexpr std::int64_t kImagesAtOnce = 32;

/// Computes nodes from … end and keeps each output in the trace; with from = 0 trace[0] must hold
/// the images [N, C, H, W] f32 (normalised), otherwise whatever nodes >= from read from before.
/// Returns the logits [N, classes]. This is the reference path: LibTorch's operators one by one,
/// evaluation mode.
at::Tensor run(const Graph& graph, Trace& trace, NodeId from = 0);

/// Logits of images, other outputs dropped as soon as nobody reads them.
at::Tensor logits(const Graph& graph, const at::Tensor& images);

/// Sees every output as it is computed, and may change it in place. The output of the Input is the
/// images. That of a DuplicatedConv is [N, out + d, H, W], before the correction.
using OnOutput = std::function<void(NodeId, at::Tensor&)>;
/// Logits of images whose outputs are shown to `on_output`. No output is a view of another.
at::Tensor logits(const Graph& graph, const at::Tensor& images, const OnOutput& on_output);
/// apply of one node, its output shown.
at::Tensor apply_shown(const Graph& graph, NodeId id, const std::vector<at::Tensor>& inputs,
                       const OnOutput& on_output);

/// Like run, but drops outputs when their last reader is done. Entries of `trace` that were defined
/// on entry are read, never changed or dropped.
at::Tensor run_lean(const Graph& graph, const Trace& trace, NodeId from);

/// Training mode: batch statistics (running ones updated, momentum 0.1), dropout from `rng`;
/// gradients flow to parameters that require them. images [N, C, H, W].
at::Tensor run_training(Graph& graph, const at::Tensor& images, Rng& dropout);

/// One node on its inputs, evaluation mode.
at::Tensor apply(const Op& op, const std::vector<at::Tensor>& inputs);

/// The weight as the network reads it: values outside the bounds, or not finite, are 0. The weight
/// itself where there are no bounds.
at::Tensor decoded(const at::Tensor& weight, const WeightBounds& bounds);

/// rules::merge of a duplicated channel's results; a, b [N, d, H, W], low/high [d]. `same` [d]
/// (undefined: none): channels whose stored rows are equal; there b is a by definition, however the
/// convolution's kernel rounds.
at::Tensor correct(const at::Tensor& a, const at::Tensor& b, Correction correction,
                   const at::Tensor& low, const at::Tensor& high, const at::Tensor& same = {});

/// Whether the output may be a view of the input, which then stays in memory as a whole.
bool may_be_view(const Op& op);

/// Live nodes at a cut: outputs of nodes before `from` that nodes at or after it read.
std::vector<NodeId> live_at(const Graph& graph, NodeId from);

}  // namespace sentinel
