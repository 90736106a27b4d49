#pragma once
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "sentinel/graph/graph.hpp"
#include "sentinel/io/checkpoint_file.hpp"

namespace sentinel {

/// Names of all architectures, sorted ("resnet20", "vgg16_bn" …).
std::vector<std::string> model_names();

/// Builds an architecture around the tensors of a state_dict, by PyTorch's names
/// (pytorch-cifar-models). Widths are taken from the tensors, so pruned networks load by
/// themselves; entries of any float type become f32. Throws UserError for an unknown name,
/// DataError listing missing, unexpected and misshapen entries (`source` is the file named there;
/// `classes` of the data set must match the last layer).
Graph build_model(const std::string& name, std::int64_t classes, const StateDict& tensors,
                  const std::string& source);

/// A fresh network with PyTorch's default initialisation of the original repository (Kaiming for
/// convolutions), from the counter-based generator.
Graph initial_model(const std::string& name, std::int64_t classes, std::uint64_t seed);

/// Output channels of every convolution, by name.
std::map<std::string, std::int64_t> conv_channels(const Graph& graph);
/// Whether a convolution has fewer channels than its architecture gives it; false for architectures
/// that are not known here.
bool is_narrowed(const Graph& graph);

/// Guesses what a state_dict may be, by names and shapes: architectures that fit, whatever prefix
/// the names have, for error messages and `inspect`.
std::vector<std::string> matching_models(const StateDict& tensors);

/// The graph's tensors in PyTorch's order and names; protected layers in the layout of
/// docs/checkpoint_files.md, then the additional tensors (`<conv>.duplicated`,
/// `<conv>.range_low/high`, `<relu>.bound`).
StateDict state_dict(const Graph& graph);

/// A whole checkpoint: state_dict plus the record sentinelnn.json, so that it loads without any
/// option. Of an imported network the record holds the structure too.
struct Provenance {
  std::vector<std::string> parents;  // SHA-256 of the files this model was made from
  std::string command;
  std::uint64_t seed = 0;
  std::string recipe;  // of a hardened model: all that decides its bits, in words; empty otherwise
  // SHA-256 of the structure and tensors of such a model; empty in files of earlier versions.
  std::string network_sha256 = {};
};
Bytes serialize_model(const Graph& graph, const Provenance& provenance);
/// The record alone, of nobody's making.
std::string network_record(const Graph& graph);
/// SHA-256 of what serialize_model writes of the network: structure and tensors, no provenance.
std::string network_sha256(const Graph& graph);

/// What serialize_model was told; empty for a file without the record. DataError where the file or
/// its record is damaged.
Provenance read_provenance(const Bytes& file, const std::string& source);

/// "fp32", "bf16", "i64", "bool".
std::string type_name(at::ScalarType type);

/// What the user says of a file. Empty: taken from the record, or from the file itself.
struct ModelChoice {
  std::string name, dataset;
  std::string weights_key;  // which dictionary of tensors, "state_dict_ema"
};

/// What a reader of results must know of a file of weights beside the network.
struct FileNotes {
  std::string weights_key;   // of the dictionary that was taken, "" for the outermost
  std::string stored_types;  // of floats that were converted to fp32: "fp64"
};

/// The inverse of serialize_model, bit for bit; also reads plain state_dicts and safetensors where
/// name and data set are given, and TorchScript files (script.hpp) where the data set is.
///
/// Of a plain file the dictionary of tensors is taken that fits, whatever prefix its names have;
/// what was chosen, left out or converted to fp32 is logged, once. Tensors of fp16, bf16 and qint8
/// stay stored as such. Without a record UserError where
/// the name or data set is empty, or nothing is called `weights_key`; with one, where a name or
/// data set contradicts it. DataError where nothing fits.
Graph parse_model(const Bytes& file, const std::string& source, const ModelChoice& wanted,
                  FileNotes* notes = nullptr);
Graph parse_model(const Bytes& file, const std::string& source, const std::string& name,
                  const std::string& dataset);

/// How the images of the network are normalised: its own constants, or else its data set's; nothing
/// where it has neither.
std::optional<Normalisation> normalisation_of(const Graph& graph);
/// Keeps constants as the graph's own, unless they are its data set's.
void set_normalisation(Graph& graph, const Normalisation& normalisation);

/// How a file of either kind says that its network's images are normalised: a checkpoint by its
/// record (where that is silent, as its data set's), a TorchScript file where export_script wrote
/// it. Nothing where it does not say. DataError where it is damaged.
std::optional<Normalisation> recorded_normalisation(const Bytes& file, const std::string& source);

}  // namespace sentinel
