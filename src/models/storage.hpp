#pragma once
#include <map>
#include <string>

#include "sentinel/graph/graph.hpp"
#include "sentinel/io/checkpoint_file.hpp"

namespace sentinel {

/// Layouts by entry, as the record of a checkpoint has them: "conv1.weight" -> "int8:channel".
using LayoutNames = std::map<std::string, std::string>;

LayoutNames layout_names(const Graph& graph);

/// Takes the scales of these entries out of the tensors of a file, so that the rest is a network.
std::map<std::string, at::Tensor> take_scales(StateDict& tensors, const LayoutNames& layouts);

/// Lets the tensors of a graph be stored so. DataError where an entry is none of the network's, a
/// layout is none, scales are missing or of another shape, or values are none that it stores.
void set_storage(Graph& graph, const LayoutNames& layouts,
                 const std::map<std::string, at::Tensor>& scales, const std::string& source);

/// The network's tensors that a plain file holds in a format of its own are stored so; scales have
/// the rows of the file. Tensors whose values are others by now are left out. Logs how many.
void keep_storage(Graph& graph, const std::map<std::string, Storage>& kept,
                  const std::string& source);

}  // namespace sentinel
