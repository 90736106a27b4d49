#pragma once
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

/// How a tensor is stored by the rules; as a tensor of `kind`, so that kScale is for its scales.
Layout layout_by(const std::vector<StoreRule>& rules, const Graph& graph,
                 const StoredTensor& tensor, TensorClass kind);

/// Stores a network's tensors but bounds, and their scales, by the rules: the last that names a
/// tensor counts. The others stay plain fp32, or as they are stored already. Values become those
/// that are read. UserError where a value that needs a scale is not finite.
void store_values(Graph& graph, const std::vector<StoreRule>& rules);
/// Stores the bounds, which were taken from the values as they are read, rounded outwards: without
/// faults they cut nothing. UserError where a rule names nothing of the network, or a format cannot
/// hold a bound.
void store_bounds(Graph& graph, const std::vector<StoreRule>& rules);

/// UserError where tensors are stored in another way than fp32: what is made of a network is made
/// before. `what`: "prune".
void require_plain_storage(const Graph& graph, const std::string& what);

}  // namespace sentinel
