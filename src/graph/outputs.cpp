#include "sentinel/graph/outputs.hpp"

#include <functional>
#include <numeric>
#include <set>

#include "sentinel/core/error.hpp"
#include "sentinel/graph/profile.hpp"

namespace sentinel {
namespace {

bool has_weight(const Op& op) {
  return out_channels_of(op) > 0;
}

/// Outputs that a layer with weights reads.
std::set<NodeId> read_by_layers(const Graph& graph) {
  std::set<NodeId> nodes;
  for (const Node& node : graph.nodes()) {
    if (!has_weight(node.op)) continue;
    NodeId read = node.inputs.at(0);
    while (std::holds_alternative<Flatten>(graph[read].op) ||
           std::holds_alternative<Dropout>(graph[read].op))
      read = graph[read].inputs[0];
    if (std::holds_alternative<DuplicatedConv>(graph[read].op))
      throw UserError("post: '" + node.name + "' reads the merged results of '" + graph[read].name +
                      "' as they are, which cannot be hit; choose activation");
    nodes.insert(read);
  }
  return nodes;
}

std::vector<NodeId> nodes_of(const Graph& graph, TensorClass kind) {
  std::vector<NodeId> nodes;
  const std::set<NodeId> read =
      kind == TensorClass::kPost ? read_by_layers(graph) : std::set<NodeId>();
  for (NodeId id = 0; id < graph.size(); ++id) {
    const bool chosen =
        kind == TensorClass::kOutput ||
        (kind == TensorClass::kPost ? read.count(id) > 0 : has_weight(graph[id].op));
    if (chosen) nodes.push_back(id);
  }
  return nodes;
}

}  // namespace

bool is_output(TensorClass kind) {
  return kind >= TensorClass::kActivation;
}

std::vector<StoredTensor> output_tensors(const Graph& graph, TensorClass kind) {
  if (!is_output(kind)) throw Bug("no class of outputs");
  const auto shapes = output_shapes(graph);
  std::vector<StoredTensor> tensors;
  for (const NodeId id : nodes_of(graph, kind)) {
    const std::vector<std::int64_t>& shape = shapes[static_cast<std::size_t>(id)];
    StoredTensor tensor;
    tensor.node = id;
    tensor.name = graph[id].name;
    tensor.kind = kind;
    tensor.row = static_cast<std::uint64_t>(
        std::accumulate(shape.begin() + 1, shape.end(), std::int64_t{1}, std::multiplies<>()));
    tensor.originals = tensor.row * static_cast<std::uint64_t>(shape.front());
    const auto* conv = std::get_if<DuplicatedConv>(&graph[id].op);
    tensor.values = tensor.originals + (conv ? conv->duplicated.size() * tensor.row : 0);
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

}  // namespace sentinel
