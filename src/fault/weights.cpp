#include "fault/weights.hpp"

namespace sentinel {

const at::Tensor* weight_of(const Op& op) {
  if (const Conv* conv = as_conv(op)) return &conv->weight;
  if (const auto* linear = std::get_if<Linear>(&op)) return &linear->weight;
  return nullptr;
}

std::int64_t groups_of(const Op& op) {
  const Conv* conv = as_conv(op);
  return conv ? conv->groups : 1;
}

std::string producer_of(const Graph& graph, NodeId node) {
  while (!weight_of(graph[node].op)) {
    const Node& at = graph[node];
    const bool keeps =
        std::holds_alternative<BatchNorm>(at.op) || std::holds_alternative<Activation>(at.op) ||
        std::holds_alternative<BoundedActivation>(at.op) ||
        std::holds_alternative<MaxPool>(at.op) || std::holds_alternative<AvgPool>(at.op) ||
        std::holds_alternative<Dropout>(at.op);
    if (!keeps || at.inputs.size() != 1) return "";
    node = at.inputs[0];
  }
  return graph[node].name;
}

}  // namespace sentinel
