#pragma once
#include <map>
#include <string>
#include <vector>

#include "sentinel/graph/stored.hpp"

namespace sentinel {

/// How some of a network's tensors are to be stored.
struct StoreRule {
  std::string text;  // "weight,bias@layer1.*=int8:channel"
  std::vector<TensorClass> classes;
  std::string layers;  // a glob over the layer part of names
  Layout layout;
};

/// "CLASS[,CLASS...][@GLOB]=LAYOUT". UserError where it is none, or where values of a class must
/// not be stored so: only weights may have a code that reads words as 0, and scales none
/// themselves.
StoreRule parse_store_rule(const std::string& text);

/// How the rules store a tensor, which else stays as it is; with the kind kScale, how they store
/// its scales.
Layout layout_by(const std::vector<StoreRule>& rules, const Graph& graph,
                 const StoredTensor& tensor, TensorClass kind);

/// The storage of a network's tensors and scales, by entry: "conv1.weight", "conv1.weight_scale".
/// Those left out are plain fp32.
using Layouts = std::map<std::string, Layout>;
/// As it is stored now, changed by the rules: the last that names a tensor counts.
Layouts layouts_by(const std::vector<StoreRule>& rules, const Graph& graph);
/// UserError where a rule names nothing of the network as the rules store it.
void require_named(const std::vector<StoreRule>& rules, const Graph& graph);

/// Stores a network's tensors but bounds, and their scales. Values become those that are read.
/// UserError where a value that needs a scale is not finite.
void lay_out_values(Graph& graph, const Layouts& layouts);
/// By the rules; what they do not name stays as it is.
void store_values(Graph& graph, const std::vector<StoreRule>& rules);
/// Stores the bounds, which were taken from the values as they are read, rounded outwards: without
/// faults they cut nothing. UserError where a format cannot hold a bound.
void lay_out_bounds(Graph& graph, const Layouts& layouts);
/// By the rules; require_named.
void store_bounds(Graph& graph, const std::vector<StoreRule>& rules);

}  // namespace sentinel
