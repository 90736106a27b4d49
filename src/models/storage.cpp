#include "models/storage.hpp"

#include <algorithm>

#include "models/checkpoint_source.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/core/text.hpp"
#include "sentinel/graph/stored.hpp"

namespace sentinel {
namespace {

const std::string kScales = "_scale";

[[noreturn]] void refuse(const std::string& source, const std::string& entry,
                         const std::string& what) {
  throw DataError(source,
                  "by the record sentinelnn.json, " + entry + " is stored in a way that " + what);
}

Layout layout_of(const std::string& source, const std::string& entry, const std::string& text) {
  try {
    return parse_layout(text);
  } catch (const UserError& error) {
    refuse(source, entry, std::string("is none: ") + error.what());
  }
}

/// The entry that one of scales would be for; empty: it is named otherwise.
std::string scaled_by(const std::string& entry) {
  return ends_with(entry, kScales) ? entry.substr(0, entry.size() - kScales.size()) : "";
}

const StoredTensor* find(const std::vector<StoredTensor>& tensors, const std::string& entry) {
  const auto found = std::find_if(tensors.begin(), tensors.end(),
                                  [&](const StoredTensor& own) { return own.name == entry; });
  return found == tensors.end() ? nullptr : &*found;
}

void require_fit(const std::string& source, const std::string& entry, TensorClass kind,
                 const Layout& layout) {
  const std::string fault = layout_fault(kind, layout);
  if (!fault.empty()) refuse(source, entry, "is refused: " + fault);
}

/// Its rows in the order of the graph's.
at::Tensor checked_scale(const Graph& graph, const StoredTensor& tensor, const Layout& layout,
                         const at::Tensor& scale, const std::string& source) {
  const auto rows = static_cast<std::int64_t>(tensor.row == 0 ? 1 : tensor.values / tensor.row);
  const std::int64_t wanted = layout.scale_per_row ? rows : 1;
  if (!scale.defined() || scale.scalar_type() != at::kFloat || scale.dim() != 1 ||
      scale.size(0) != wanted)
    refuse(source, tensor.name,
           "needs " + std::to_string(wanted) + " fp32 scales, " + tensor.name + kScales);
  const auto* conv = std::get_if<DuplicatedConv>(&graph[tensor.node].op);
  if (!conv || wanted != rows) return scale.clone();
  return rows_from_file(scale, static_cast<std::int64_t>(conv->duplicated.size()), conv->layout)
      .clone();
}

}  // namespace

LayoutNames layout_names(const Graph& graph) {
  LayoutNames names;
  for (const auto& [entry, storage] : graph.storage) names[entry] = layout_name(storage.layout);
  return names;
}

std::map<std::string, at::Tensor> take_scales(StateDict& tensors, const LayoutNames& layouts) {
  std::map<std::string, at::Tensor> scales;
  StateDict others;
  for (const auto& [name, tensor] : tensors) {
    if (layouts.count(scaled_by(name)) > 0)
      scales[name] = tensor;
    else
      others.set(name, tensor);
  }
  tensors = std::move(others);
  return scales;
}

void set_storage(Graph& graph, const LayoutNames& layouts,
                 const std::map<std::string, at::Tensor>& scales, const std::string& source) {
  const std::vector<StoredTensor> tensors = stored_tensors(graph);
  std::map<std::string, Layout> wanted;
  for (const auto& [entry, text] : layouts) wanted[entry] = layout_of(source, entry, text);
  for (const auto& [entry, layout] : wanted) {
    const auto scaled = wanted.find(scaled_by(entry));
    if (scaled != wanted.end() && find(tensors, scaled->first) != nullptr &&
        has_scale(scaled->second.format)) {
      require_fit(source, entry, TensorClass::kScale, layout);
      graph.storage[entry].layout = layout;
      continue;
    }
    const StoredTensor* tensor = find(tensors, entry);
    if (tensor == nullptr) refuse(source, entry, "names no tensor of the network");
    require_fit(source, entry, tensor->kind, layout);
    const auto scale = scales.find(entry + kScales);
    const bool has = has_scale(layout.format);
    if (has != (scale != scales.end()))
      refuse(source, entry, has ? "needs scales, which are missing" : "has no scales");
    graph.storage[entry] = {
        layout, has ? checked_scale(graph, *tensor, layout, scale->second, source) : at::Tensor()};
  }
  for (const auto& [entry, text] : layouts)
    if (!is_stored_exactly(graph, entry))
      refuse(source, entry, "cannot hold its values; the file was changed");
}

}  // namespace sentinel
