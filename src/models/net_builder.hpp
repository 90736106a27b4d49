#pragma once
#include <string>
#include <vector>

#include "models/layer_source.hpp"

namespace sentinel {

/// Puts layers of a LayerSource into a graph and keeps count of their channels.
class NetBuilder {
 public:
  /// Starts with the Input, node 0; of 3 x size x size.
  NetBuilder(LayerSource& source, const Input& input);
  NetBuilder(LayerSource& source, std::int64_t size) : NetBuilder(source, Input{3, {size, size}}) {}

  /// ConvSpec::in is filled in here.
  NodeId conv(ConvSpec spec, NodeId input);
  NodeId batch_norm(const std::string& name, NodeId input, double eps = 1e-5);
  NodeId activation(const std::string& name, ActivationKind kind, NodeId input);
  NodeId relu(const std::string& name, NodeId input) {
    return activation(name, ActivationKind::kRelu, input);
  }
  NodeId add(const std::string& name, const std::vector<NodeId>& inputs);
  /// `gate`: one number per channel of `x`.
  NodeId multiply(const std::string& name, NodeId x, NodeId gate);
  NodeId concat(const std::string& name, const std::vector<NodeId>& inputs);
  NodeId slice(const std::string& name, const Slice& slice, NodeId input);
  /// The first (0) or second (1) half of the channels.
  NodeId half(const std::string& name, int which, NodeId input);
  NodeId flatten(const std::string& name, NodeId input, std::int64_t pixels = 1);
  NodeId linear(LinearSpec spec, NodeId input);
  /// An operator without tensors that keeps the number of channels.
  NodeId plain(const std::string& name, Op op, NodeId input);
  std::int64_t channels(NodeId id) const { return channels_[static_cast<std::size_t>(id)]; }
  NodeId size() const { return graph_.size(); }
  Graph take() { return std::move(graph_); }

 private:
  NodeId append(const std::string& name, Op op, std::vector<NodeId> inputs, std::int64_t channels);
  void require_same(const std::string& name, NodeId a, NodeId b);

  LayerSource& source_;
  Graph graph_;
  std::vector<std::int64_t> channels_;
};

}  // namespace sentinel
