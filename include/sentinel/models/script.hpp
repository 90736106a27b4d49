#pragma once
#include <optional>
#include <string>

#include "sentinel/graph/graph.hpp"
#include "sentinel/io/checkpoint_file.hpp"
#include "sentinel/io/dataset.hpp"

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
/// network is for evaluation. Its attribute `description` [str] says what images it expects and
/// what becomes of its weight bounds in training; sentinelnn_mean and sentinelnn_std [list of
/// float] are the normalisation, where it is known. The same graph gives the same bytes.
/// EnvironmentError where the file cannot be written.
void export_script(const Graph& graph, const std::string& path);

/// A traced or scripted network of PyTorch, in evaluation mode, as a Graph for the images of a data
/// set. The file is a program: checked_script and check_script refuse all but the operators of
/// is_script_operator before anything runs. Then it is run on made images, operator by operator,
/// while these are recorded, so that control flow, sizes, lists and submodules need no rules of
/// their own. A path, or an argument, that depends on the number of images is refused. Last, its
/// logits on other images are compared with the graph's. Layers have the names of the modules that
/// own their parameters, operators without parameters those of the modules that call them; entries
/// of the state_dict stay as they are named, without those that evaluation does not use. DataError
/// where the file is damaged, has another number of classes, or uses something that a Graph has no
/// operator for: the first such operator and its place are named. Halves stay stored as such;
/// doubles become fp32, which is logged, and `stored_types` is then "fp64".
Graph import_script(const Bytes& file, const std::string& source, const DatasetInfo& dataset,
                    std::string* stored_types = nullptr);

/// The normalisation that export_script wrote; nothing in files of others. DataError where the file
/// is damaged.
std::optional<Normalisation> script_normalisation(const Bytes& file, const std::string& source);

}  // namespace sentinel
