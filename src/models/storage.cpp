#include "models/storage.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "models/checkpoint_source.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/core/text.hpp"
#include "sentinel/graph/stored.hpp"

namespace sentinel {
namespace {

const std::string kScales = "_scale";
constexpr const char* kNoSuchTensor = "the network has no such tensor";

[[noreturn]] void refuse(const std::string& source, const std::string& entry,
                         const std::string& what) {
  throw DataError(source,
                  "the record sentinelnn.json says how " + entry + " is stored, but " + what);
}

Layout layout_of(const std::string& source, const std::string& entry, const std::string& text) {
  try {
    return parse_layout(text);
  } catch (const UserError& error) {
    refuse(source, entry, error.what());
  }
}

bool is_scale(const std::string& entry) {
  return ends_with(entry, kScales);
}

/// The entry whose scales these are.
std::string scaled_entry(const std::string& scales) {
  return scales.substr(0, scales.size() - kScales.size());
}

/// Its rows in the order of the graph's.
at::Tensor checked_scale(const Graph& graph, const StoredTensor& tensor, const Layout& layout,
                         const at::Tensor& scale, const std::string& source) {
  const auto rows = static_cast<std::int64_t>(tensor.row == 0 ? 1 : tensor.values / tensor.row);
  const std::int64_t wanted = layout.scale_per_row ? rows : 1;
  if (!scale.defined() || scale.scalar_type() != at::kFloat || scale.dim() != 1 ||
      scale.size(0) != wanted)
    refuse(source, tensor.name,
           "its format needs " + tensor.name + kScales + " with " + std::to_string(wanted) +
               " fp32 values");
  const auto* conv = std::get_if<DuplicatedConv>(&graph[tensor.node].op);
  if (!conv || wanted != rows) return scale.clone();
  return rows_from_file(scale, static_cast<std::int64_t>(conv->duplicated.size()), conv->layout)
      .clone();
}

const Layout& fitting(const std::string& source, const std::string& entry, TensorClass kind,
                      const Layout& layout) {
  const std::string why = misfit(kind, layout);
  if (!why.empty()) refuse(source, entry, why);
  return layout;
}

/// How the record says that a tensor of the network is stored.
Storage storage_of(const Graph& graph, const std::vector<StoredTensor>& tensors,
                   const std::string& entry, const Layout& layout,
                   const std::map<std::string, at::Tensor>& scales, const std::string& source) {
  const auto tensor = std::find_if(tensors.begin(), tensors.end(),
                                   [&](const StoredTensor& own) { return own.name == entry; });
  if (tensor == tensors.end()) refuse(source, entry, kNoSuchTensor);
  Storage storage{fitting(source, entry, tensor->kind, layout), {}};
  const auto scale = scales.find(entry + kScales);
  const bool scaled = has_scale(layout.format);
  if (scaled != (scale != scales.end()))
    refuse(source, entry,
           scaled ? "its scales are missing" : "there are scales that its format does not use");
  if (scaled) storage.scale = checked_scale(graph, *tensor, layout, scale->second, source);
  return storage;
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
    if (is_scale(name) && layouts.count(scaled_entry(name)) > 0)
      scales[name] = tensor;
    else
      others.set(name, tensor);
  }
  tensors = std::move(others);
  return scales;
}

void keep_storage(Graph& graph, const std::map<std::string, Storage>& kept,
                  const std::string& source) {
  const std::vector<StoredTensor> all = stored_tensors(graph);
  std::map<std::string, int> counts, lost;
  for (const StoredTensor& tensor : all) {
    const auto own = kept.find(tensor.name);
    if (own == kept.end()) continue;
    Storage storage = own->second;
    if (storage.scale.defined())
      storage.scale = checked_scale(graph, tensor, storage.layout, storage.scale, source);
    graph.storage[tensor.name] = storage;
    if (is_stored_exactly(graph, tensor.name)) continue;
    ++lost[layout_name(storage.layout)];
    graph.storage.erase(tensor.name);
  }
  for (const auto& [layout, count] : lost)
    spdlog::warn(
        "{}: {} of {} tensors were made of values in {} (masks, weight norm) and are none that it "
        "has: they are fp32, and faults hit 32-bit words. `harden {} weight={}` can change that",
        source, count, all.size(), layout, spelled(Setting::kStore), layout);
  for (const auto& [entry, layout] : layout_names(graph)) ++counts[layout];
  for (const auto& [layout, count] : counts)
    spdlog::info(
        "{}: {} of {} tensors are stored as {} and stay so: faults hit these words. `harden {} "
        "weight,bias,bn=fp32` can change that",
        source, count, all.size(), layout, spelled(Setting::kStore));
}

void set_storage(Graph& graph, const LayoutNames& layouts,
                 const std::map<std::string, at::Tensor>& scales, const std::string& source) {
  const std::vector<StoredTensor> tensors = stored_tensors(graph);
  for (const auto& [entry, text] : layouts) {
    const Layout layout = layout_of(source, entry, text);
    const bool of_scales = is_scale(entry) && layouts.count(scaled_entry(entry)) > 0;
    if (!of_scales)
      graph.storage[entry] = storage_of(graph, tensors, entry, layout, scales, source);
    else if (scales.count(entry) == 0 || is_scale(scaled_entry(entry)))
      refuse(source, entry, kNoSuchTensor);
    else
      graph.storage[entry] = {fitting(source, entry, TensorClass::kScale, layout), {}};
  }
  for (const auto& [entry, text] : layouts)
    if (!is_stored_exactly(graph, entry))
      refuse(source, entry, "its values are none that are stored so; the file was changed");
}

}  // namespace sentinel
