#pragma once
#include <ATen/ATen.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "sentinel/core/normalisation.hpp"
#include "sentinel/graph/ops.hpp"
#include "sentinel/words/layout.hpp"

namespace sentinel {

using NodeId = std::int64_t;

struct Node {
  std::string name;  // PyTorch's dotted module name; second call sites of a module as torchvision's
                     // feature extraction has it: layer1.0.relu, layer1.0.relu_1
  Op op;
  std::vector<NodeId> inputs;  // earlier nodes
};

/// Where the channels of a transformed convolution or linear layer come from in the original model:
/// channel numbers there, empty = unchanged. Faults are named in these coordinates so that
/// campaigns pair.
struct ChannelOrigin {
  std::vector<std::int64_t> out, in;
};

/// How a tensor is kept in memory. The graph holds its values as they are read without faults.
struct Storage {
  Layout layout;
  at::Tensor scale;  // [rows] or [1] f32 on the CPU; undefined where the format has none
};
/// Whether it has a scale for each row of the tensor.
bool has_row_scales(const Storage& storage);

/// A CNN as data: nodes in execution order, node 0 the Input, the last node the logits [N,
/// classes]. Move-only: tensors alias when copied, so clone() is explicit.
class Graph {
 public:
  Graph() = default;
  Graph(Graph&&) = default;
  Graph& operator=(Graph&&) = default;
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  /// Deep copy: shares no tensor with this.
  Graph clone() const;

  /// Appends a node; its inputs must exist and its name be new (Bug otherwise).
  NodeId add(std::string name, Op op, std::vector<NodeId> inputs);
  NodeId size() const { return static_cast<NodeId>(nodes_.size()); }
  const Node& operator[](NodeId id) const { return nodes_.at(static_cast<std::size_t>(id)); }
  Node& operator[](NodeId id) { return nodes_.at(static_cast<std::size_t>(id)); }
  const std::vector<Node>& nodes() const { return nodes_; }
  /// Takes a node with one input out of the graph: its readers read that input. The numbers of
  /// later nodes are one less.
  void remove(NodeId id);
  /// Bug if there is none.
  NodeId find(const std::string& name) const;
  /// For each node the nodes that read it.
  std::vector<std::vector<NodeId>> consumers() const;

  /// Moves every tensor to a device, convolution weights also to channels_last where asked.
  void to(at::Device device, at::MemoryFormat conv_format = at::MemoryFormat::Contiguous);

  // What the checkpoint must remember beside the nodes.
  std::string architecture;                     // "resnet20"
  bool folded = false;                          // batch norm of the architecture is gone
  std::string dataset;                          // "cifar10"
  std::optional<Normalisation> normalisation;   // of its images; empty: the data set's
  std::vector<std::string> state_order;         // PyTorch's order of the state_dict's entries
  std::map<std::string, ChannelOrigin> origin;  // by Conv/Linear node name; absent = unchanged
  std::map<std::string, Storage> storage;       // by entry, "conv1.weight"; absent = plain fp32

 private:
  std::vector<Node> nodes_;
};

bool has_weight_bounds(const Graph& graph);

}  // namespace sentinel
