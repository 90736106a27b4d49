#include <set>

#include "models/checkpoint_source.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/graph/stored.hpp"
#include "sentinel/graph/visit.hpp"
#include "sentinel/models/model.hpp"

namespace sentinel {
namespace {

at::Tensor stored(const Op& op, const std::string& suffix, const at::Tensor& tensor) {
  const at::Tensor plain = tensor.detach().to(at::kCPU).contiguous();
  const auto* conv = std::get_if<DuplicatedConv>(&op);
  const bool by_row = suffix == "weight" || suffix == "bias" ||
                      (plain.dim() == 1 && (suffix == "weight_low" || suffix == "weight_high"));
  if (conv == nullptr || !by_row) return plain;
  return rows_to_file(plain, static_cast<std::int64_t>(conv->duplicated.size()), conv->layout);
}

/// Scales by row have the rows of their tensors.
void add_scales(const Graph& graph, StateDict& to) {
  for (const StoredTensor& tensor : stored_tensors(graph)) {
    if (tensor.kind != TensorClass::kScale) continue;
    const at::Tensor& scales = values_of(graph, tensor);
    const auto* conv = std::get_if<DuplicatedConv>(&graph[tensor.node].op);
    const bool by_row = conv != nullptr && scales.numel() == conv->conv.weight.size(0);
    to.set(tensor.name,
           by_row ? rows_to_file(scales, static_cast<std::int64_t>(conv->duplicated.size()),
                                 conv->layout)
                  : scales);
  }
}

}  // namespace

StateDict state_dict(const Graph& graph) {
  StateDict named, additional, result;
  for (const Node& node : graph.nodes()) {
    if (const auto* conv = std::get_if<DuplicatedConv>(&node.op)) {
      additional.set(node.name + ".duplicated", at::tensor(conv->duplicated, at::kLong));
    }
    for_each_tensor(node.op, [&](const char* suffix, const at::Tensor& tensor) {
      const std::string name = node.name + "." + suffix;
      (is_additional(name) ? additional : named).set(name, stored(node.op, suffix, tensor));
    });
  }
  add_scales(graph, additional);
  for (const std::string& name : graph.state_order) {
    const at::Tensor* tensor = named.find(name);
    if (tensor == nullptr) throw Bug("the network has no tensor '" + name + "' any more");
    result.set(name, *tensor);
  }
  for (const auto& entry : named) {
    if (!result.contains(entry.first)) result.set(entry.first, entry.second);
  }
  for (const auto& entry : additional) result.set(entry.first, entry.second);
  return result;
}

}  // namespace sentinel
