#pragma once
#include <string>
#include <vector>

#include "models/layer_source.hpp"

namespace sentinel {

/// Puts layers of a LayerSource into a graph and keeps count of their channels.
class NetBuilder {
 public:
  /// Starts with the Input, 3 x 32 x 32, node 0.
  explicit NetBuilder(LayerSource& source);

  /// ConvSpec::in is filled in here.
  NodeId conv(ConvSpec spec, NodeId input);
  NodeId batch_norm(const std::string& name, NodeId input);
  NodeId relu(const std::string& name, NodeId input);
  NodeId add(const std::string& name, NodeId a, NodeId b);
  NodeId linear(LinearSpec spec, NodeId input);
  /// An operator without tensors that keeps the number of channels.
  NodeId plain(const std::string& name, Op op, NodeId input);
  Graph take() { return std::move(graph_); }

 private:
  NodeId append(const std::string& name, Op op, std::vector<NodeId> inputs, std::int64_t channels);
  std::int64_t channels(NodeId id) const { return channels_[static_cast<std::size_t>(id)]; }

  LayerSource& source_;
  Graph graph_;
  std::vector<std::int64_t> channels_;
};

}  // namespace sentinel
