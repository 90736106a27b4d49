#include "sentinel/graph/graph.hpp"

#include <algorithm>

#include "sentinel/core/error.hpp"
#include "sentinel/graph/visit.hpp"

namespace sentinel {

Graph Graph::clone() const {
  Graph copy;
  copy.nodes_ = nodes_;
  for (Node& node : copy.nodes_) {
    for_each_tensor(node.op, [](const char*, at::Tensor& t) { t = t.detach().clone(); });
  }
  copy.architecture = architecture;
  copy.folded = folded;
  copy.dataset = dataset;
  copy.normalisation = normalisation;
  copy.state_order = state_order;
  copy.origin = origin;
  copy.storage = storage;
  for (auto& [name, own] : copy.storage)
    if (own.scale.defined()) own.scale = own.scale.detach().clone();
  return copy;
}

NodeId Graph::add(std::string name, Op op, std::vector<NodeId> inputs) {
  const bool is_input = std::holds_alternative<Input>(op);
  if (is_input != nodes_.empty() || is_input != inputs.empty()) {
    throw Bug("node '" + name + "': the first node, and only it, is an Input without inputs");
  }
  for (const NodeId input : inputs) {
    if (input < 0 || input >= size()) {
      throw Bug("node '" + name + "' reads node " + std::to_string(input) +
                ", which does not exist yet");
    }
  }
  const bool taken = std::any_of(nodes_.begin(), nodes_.end(),
                                 [&](const Node& node) { return node.name == name; });
  if (taken) throw Bug("there are two nodes named '" + name + "'");
  nodes_.push_back({std::move(name), std::move(op), std::move(inputs)});
  return size() - 1;
}

void Graph::remove(NodeId id) {
  const std::vector<NodeId> inputs = (*this)[id].inputs;
  if (inputs.size() != 1) throw Bug("node '" + (*this)[id].name + "' has not one input");
  nodes_.erase(nodes_.begin() + id);
  for (Node& node : nodes_)
    for (NodeId& input : node.inputs) {
      if (input == id) input = inputs[0];
      if (input > id) --input;
    }
}

bool has_row_scales(const Storage& storage) {
  return storage.scale.defined() && storage.layout.scale_per_row;
}

NodeId Graph::find(const std::string& name) const {
  const auto found = std::find_if(nodes_.begin(), nodes_.end(),
                                  [&](const Node& node) { return node.name == name; });
  if (found == nodes_.end()) throw Bug("the network has no node '" + name + "'");
  return found - nodes_.begin();
}

std::vector<std::vector<NodeId>> Graph::consumers() const {
  std::vector<std::vector<NodeId>> readers(nodes_.size());
  for (NodeId id = 0; id < size(); ++id) {
    for (const NodeId input : (*this)[id].inputs) {
      auto& list = readers[static_cast<std::size_t>(input)];
      if (list.empty() || list.back() != id) list.push_back(id);
    }
  }
  return readers;
}

void Graph::to(at::Device device, at::MemoryFormat conv_format) {
  for (Node& node : nodes_) {
    const bool is_conv = as_conv(node.op) != nullptr;
    for_each_tensor(node.op, [&](const char*, at::Tensor& tensor) {
      tensor = tensor.to(device);
      if (is_conv && tensor.dim() == 4) tensor = tensor.contiguous(conv_format);
    });
  }
}

bool has_weight_bounds(const Graph& graph) {
  const auto& nodes = graph.nodes();
  return std::any_of(nodes.begin(), nodes.end(), [](const Node& node) {
    const WeightBounds* bounds = weight_bounds_of(node.op);
    return bounds != nullptr && bounds->low.defined();
  });
}

}  // namespace sentinel
