#include "transform/straight_through.hpp"

#include <ATen/core/grad_mode.h>

#include "sentinel/core/text.hpp"
#include "sentinel/graph/visit.hpp"

namespace sentinel {
namespace {

at::Tensor* tensor_named(Graph& graph, const StoredTensor& wanted) {
  at::Tensor* found = nullptr;
  Node& node = graph[wanted.node];
  for_each_tensor(node.op, [&](const char* suffix, at::Tensor& tensor) {
    if (node.name + "." + suffix == wanted.name) found = &tensor;
  });
  return found;
}

/// A layout that reads the same values, without the work of a code that keeps all words.
Layout without_work(Layout layout) {
  if (keeps_words(layout)) layout.code.reset();
  return layout;
}

}  // namespace

std::vector<Master> masters_of(Graph& graph, const Layouts& layouts) {
  std::vector<Master> masters;
  for (const StoredTensor& tensor : stored_tensors(graph)) {
    const auto layout = layouts.find(tensor.name);
    const bool trained = ends_with(tensor.name, ".weight") || ends_with(tensor.name, ".bias");
    if (layout == layouts.end() || !trained) continue;
    const auto scales = layouts.find(tensor.name + "_scale");
    masters.push_back({tensor, tensor_named(graph, tensor), without_work(layout->second),
                       scales == layouts.end() ? Layout() : without_work(scales->second)});
  }
  return masters;
}

AsRead::AsRead(const std::vector<Master>& masters) : masters_(masters) {
  const at::NoGradGuard no_grad;
  for (const Master& master : masters_) {
    values_.push_back(*master.values);
    *master.values =
        read_as(master.tensor, *master.values, master.layout, master.scales).requires_grad_(true);
  }
}

AsRead::~AsRead() {
  for (std::size_t i = 0; i < values_.size(); ++i) {
    at::Tensor& shown = *masters_[i].values;
    values_[i].mutable_grad() = shown.grad();
    shown = values_[i];
  }
}

}  // namespace sentinel
