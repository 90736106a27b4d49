#include "sentinel/transform/storing.hpp"

#include <algorithm>

#include "sentinel/core/error.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/core/text.hpp"
#include "sentinel/fault/selection.hpp"

namespace sentinel {
namespace {

const std::string kScales = "_scale";

/// Whether tensors of a class are the network's own.
bool is_value(TensorClass kind) {
  return kind == TensorClass::kWeight || kind == TensorClass::kBias || kind == TensorClass::kBn;
}

bool holds(const std::vector<TensorClass>& classes, TensorClass kind) {
  return std::find(classes.begin(), classes.end(), kind) != classes.end();
}

/// The classes of a rule; of "parameters" those that the layout is for.
std::vector<TensorClass> classes_of(const std::string& names, const StoreRule& rule) {
  std::vector<TensorClass> classes;
  const bool all = names == "parameters";
  try {
    classes = parse_targets(split(names, ','));
  } catch (const UserError&) {
    throw UserError(spelled(Setting::kStore) + " " + rule.text +
                    ": before @ or = stand classes of tensors: weight, bias, bn, bound, scale, or "
                    "parameters");
  }
  const bool scaled = has_scale(rule.layout.format);
  classes.erase(std::remove_if(classes.begin(), classes.end(),
                               [&](TensorClass kind) {
                                 const bool unscaled =
                                     kind == TensorClass::kScale || kind == TensorClass::kBound;
                                 return all &&
                                        (kind == TensorClass::kCheck || (unscaled && scaled));
                               }),
                classes.end());
  return classes;
}

void check_rule(const StoreRule& rule) {
  for (const TensorClass kind : rule.classes) {
    const std::string why = misfit(kind, rule.layout);
    if (!why.empty()) throw UserError(spelled(Setting::kStore) + " " + rule.text + ": " + why);
  }
}

/// As a tensor of this class.
bool matches(const StoreRule& rule, const Graph& graph, const StoredTensor& tensor,
             TensorClass kind) {
  return holds(rule.classes, kind) && matches_glob(rule.layers, graph[tensor.node].name);
}

void require_finite(const Graph& graph, const StoredTensor& tensor, const Layout& layout) {
  if (!has_scale(layout.format) || at::isfinite(values_of(graph, tensor)).all().item<bool>())
    return;
  throw UserError(spelled(Setting::kStore) + ": " + tensor.name +
                  " has a value that is not finite, so that " + layout_name(layout) +
                  " has no scale for it");
}

Layout layout_in(const Layouts& layouts, const std::string& entry) {
  const auto own = layouts.find(entry);
  return own == layouts.end() ? Layout() : own->second;
}

/// How an entry is stored now.
Layout present_layout(const Graph& graph, const std::string& entry) {
  const auto own = graph.storage.find(entry);
  return own == graph.storage.end() ? Layout() : own->second.layout;
}

void store_one(Graph& graph, const StoredTensor& tensor, const Layouts& layouts) {
  const std::string of_scales = tensor.name + kScales;
  const Layout layout = layout_in(layouts, tensor.name), scales = layout_in(layouts, of_scales);
  if (layout == tensor.layout && scales == present_layout(graph, of_scales)) return;
  if (is_plain(layout)) return store_plain(graph, tensor.name);
  require_finite(graph, tensor, layout);
  store_as(graph, tensor.name, layout, scales);
}

/// Undoes store_one; the tensor's values become these.
void restore(Graph& graph, const StoredTensor& tensor, const at::Tensor& values) {
  store_plain(graph, tensor.name);
  at::Tensor own = values_of(graph, tensor);
  own.copy_(values);
}

/// Bounds are rounded outwards: without faults they cut nothing.
void store_bound(Graph& graph, const StoredTensor& tensor, const Layouts& layouts) {
  constexpr int kTries = 64;
  const float outwards = ends_with(tensor.name, "_low") ? -1 : 1;
  const at::Tensor wanted = values_of(graph, tensor).clone();
  at::Tensor given = wanted, margin = wanted.abs() * 0x1p-24;
  for (int i = 0; i < kTries; ++i, margin = margin * 2) {
    store_one(graph, tensor, layouts);
    const at::Tensor short_of = (values_of(graph, tensor) - wanted) * outwards < 0;
    if (!short_of.any().item<bool>()) return;
    given = at::where(short_of, wanted + margin * outwards, given);
    restore(graph, tensor, given);
  }
  throw UserError(spelled(Setting::kStore) + ": " + layout_name(layout_in(layouts, tensor.name)) +
                  " cannot hold " + tensor.name + " without cutting values; take a wider format");
}

}  // namespace

StoreRule parse_store_rule(const std::string& text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0)
    throw UserError(spelled(Setting::kStore) +
                    " takes CLASS[,CLASS...][@GLOB]=LAYOUT, such as weight=int8:channel, not '" +
                    text + "'");
  StoreRule rule{text, {}, "*", {}};
  try {
    rule.layout = parse_layout(text.substr(equals + 1));
  } catch (const UserError& error) {
    throw UserError(spelled(Setting::kStore) + " " + text + ": " + error.what());
  }
  const std::string names = text.substr(0, equals);
  const std::size_t at = names.find('@');
  if (at != std::string::npos) rule.layers = names.substr(at + 1);
  rule.classes = classes_of(names.substr(0, at), rule);
  check_rule(rule);
  return rule;
}

Layout layout_by(const std::vector<StoreRule>& rules, const Graph& graph,
                 const StoredTensor& tensor, TensorClass kind) {
  const bool of_scales = kind == TensorClass::kScale && tensor.kind != TensorClass::kScale;
  Layout layout = present_layout(graph, of_scales ? tensor.name + kScales : tensor.name);
  for (const StoreRule& rule : rules)
    if (matches(rule, graph, tensor, kind)) layout = rule.layout;
  return layout;
}

Layouts layouts_by(const std::vector<StoreRule>& rules, const Graph& graph) {
  Layouts layouts;
  for (const StoredTensor& tensor : stored_tensors(graph)) {
    if (tensor.kind == TensorClass::kScale || tensor.kind == TensorClass::kCheck) continue;
    const Layout layout = layout_by(rules, graph, tensor, tensor.kind);
    if (is_plain(layout)) continue;
    layouts[tensor.name] = layout;
    if (!has_scale(layout.format)) continue;
    const Layout scales = layout_by(rules, graph, tensor, TensorClass::kScale);
    if (!is_plain(scales)) layouts[tensor.name + kScales] = scales;
  }
  return layouts;
}

void require_named(const std::vector<StoreRule>& rules, const Graph& graph) {
  if (rules.empty()) return;
  Graph stored = graph.clone();
  store_values(stored, rules);
  const std::vector<StoredTensor> all = stored_tensors(stored);
  for (const StoreRule& rule : rules)
    if (std::none_of(all.begin(), all.end(), [&](const StoredTensor& tensor) {
          return matches(rule, graph, tensor, tensor.kind);
        }))
      throw UserError(spelled(Setting::kStore) + " " + rule.text +
                      ": the network has no such tensors");
}

void lay_out_values(Graph& graph, const Layouts& layouts) {
  for (const StoredTensor& tensor : stored_tensors(graph))
    if (is_value(tensor.kind)) store_one(graph, tensor, layouts);
}

void store_values(Graph& graph, const std::vector<StoreRule>& rules) {
  lay_out_values(graph, layouts_by(rules, graph));
}

void lay_out_bounds(Graph& graph, const Layouts& layouts) {
  for (const StoredTensor& tensor : stored_tensors(graph))
    if (tensor.kind == TensorClass::kBound) store_bound(graph, tensor, layouts);
}

void store_bounds(Graph& graph, const std::vector<StoreRule>& rules) {
  lay_out_bounds(graph, layouts_by(rules, graph));
  require_named(rules, graph);
}

}  // namespace sentinel
