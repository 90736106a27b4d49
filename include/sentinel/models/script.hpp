#pragma once
#include <string>

#include "sentinel/graph/graph.hpp"

namespace sentinel {

/// Replaces `path` by a TorchScript file that plain PyTorch or LibTorch runs, nothing of ours being
/// installed: torch.jit.load(path)(images), images [N, C, H, W] f32 (normalised) -> logits [N,
/// classes] as of `run`, bit for bit where PyTorch computes with the same kernels and fuses none of
/// them. Correction, activation bounds and weight bounds are part of it and decide at every call on
/// the parameters as they then are. (torch.jit.freeze would decide about the weights for good.)
///
/// Parameters and buffers have PyTorch's dotted names, then those of a checkpoint's additional
/// tensors ("layer1.0.conv1.duplicated", "layer1.0.relu_1.bound"). Rows of a duplicated convolution
/// are always [originals | copies], whatever the layout of its checkpoint. Dropout is left out: the
/// network is for evaluation. The same graph gives the same bytes. EnvironmentError where the file
/// cannot be written.
void export_script(const Graph& graph, const std::string& path);

}  // namespace sentinel
