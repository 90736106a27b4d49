#include "models/storage.hpp"

#include <algorithm>

#include "models/checkpoint_source.hpp"
#include "sentinel/core/error.hpp"
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

bool is_scale(const std::string& entry) {
  return entry.size() > kScales.size() &&
         entry.compare(entry.size() - kScales.size(), kScales.size(), kScales) == 0;
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
    const bool own =
        is_scale(name) && layouts.count(name.substr(0, name.size() - kScales.size())) > 0;
    if (own)
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
  for (const auto& [entry, text] : layouts) {
    Storage& storage = graph.storage[entry];
    storage.layout = layout_of(source, entry, text);
    if (is_scale(entry) && layouts.count(entry.substr(0, entry.size() - kScales.size())) > 0)
      continue;
    const auto tensor =
        std::find_if(tensors.begin(), tensors.end(),
                     [&, name = entry](const auto& own) { return own.name == name; });
    if (tensor == tensors.end()) refuse(source, entry, "names no tensor of the network");
    const auto scale = scales.find(entry + kScales);
    const bool scaled = has_scale(storage.layout.format);
    if (scaled != (scale != scales.end()))
      refuse(source, entry, scaled ? "needs scales, which are missing" : "has no scales");
    if (scaled)
      storage.scale = checked_scale(graph, *tensor, storage.layout, scale->second, source);
  }
  for (const auto& [entry, text] : layouts)
    if (!is_stored_exactly(graph, entry))
      refuse(source, entry, "cannot hold its values; the file was changed");
}

}  // namespace sentinel
