#pragma once
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

/// Whether a convolution has fewer channels than its architecture gives it; false for architectures
/// that are not known here.
bool is_narrowed(const Graph& graph);

/// Guesses what a state_dict may be, by names and shapes: architectures that fit, for error
/// messages and `inspect`.
std::vector<std::string> matching_models(const StateDict& tensors);

/// The graph's tensors in PyTorch's order and names; protected layers in the checkpoint layout of
/// design 02, then the additional tensors (`<conv>.duplicated`, `<conv>.range_low/high`,
/// `<relu>.bound`).
StateDict state_dict(const Graph& graph);

/// A whole checkpoint: state_dict plus the record sentinelnn.json, so that it loads without any
/// option. Of an imported network the record holds the structure too.
struct Provenance {
  std::vector<std::string> parents;  // SHA-256 of the files this model was made from
  std::string command;
  std::uint64_t seed = 0;
  std::string recipe;  // of a hardened model: all that decides its bits, in words; empty otherwise
};
Bytes serialize_model(const Graph& graph, const Provenance& provenance);

/// What serialize_model was told; empty for a file without the record. DataError where the file or
/// its record is damaged.
Provenance read_provenance(const Bytes& file, const std::string& source);

/// The inverse, bit for bit; also reads plain state_dicts where name and data set are given, and
/// TorchScript files (script.hpp) where the data set is.
/// `name`/`dataset` empty: taken from the record (UserError where there is none); given and
/// contradicting the record: UserError.
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
