#include "sentinel/protect/storing.hpp"

#include <algorithm>

#include "sentinel/core/error.hpp"
#include "sentinel/core/text.hpp"
#include "sentinel/fault/selection.hpp"

namespace sentinel {
namespace {

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
    throw UserError("--store " + rule.text +
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
    if (!why.empty()) throw UserError("--store " + rule.text + ": " + why);
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
  throw UserError("--store: " + tensor.name + " has a value that is not finite, so that " +
                  layout_name(layout) + " has no scale for it");
}

void store_one(Graph& graph, const StoredTensor& tensor, const std::vector<StoreRule>& rules) {
  if (tensor.kind == TensorClass::kScale || tensor.kind == TensorClass::kCheck) return;
  if (graph.storage.count(tensor.name) > 0) return;
  const Layout layout = layout_by(rules, graph, tensor, tensor.kind);
  if (is_plain(layout)) return;
  require_finite(graph, tensor, layout);
  store_as(graph, tensor.name, layout, layout_by(rules, graph, tensor, TensorClass::kScale));
}

/// Undoes store_one; the tensor's values become these.
void restore(Graph& graph, const StoredTensor& tensor, const at::Tensor& values) {
  graph.storage.erase(tensor.name);
  graph.storage.erase(tensor.name + "_scale");
  at::Tensor own = values_of(graph, tensor);
  own.copy_(values);
}

/// Bounds are rounded outwards: without faults they cut nothing.
void store_bound(Graph& graph, const StoredTensor& tensor, const std::vector<StoreRule>& rules) {
  constexpr int kTries = 64;
  const float outwards = ends_with(tensor.name, "_low") ? -1 : 1;
  const at::Tensor wanted = values_of(graph, tensor).clone();
  at::Tensor given = wanted, margin = wanted.abs() * 0x1p-24;
  for (int i = 0; i < kTries; ++i, margin = margin * 2) {
    store_one(graph, tensor, rules);
    const at::Tensor short_of = (values_of(graph, tensor) - wanted) * outwards < 0;
    if (!short_of.any().item<bool>()) return;
    given = at::where(short_of, wanted + margin * outwards, given);
    restore(graph, tensor, given);
  }
  throw UserError("--store: " + layout_name(layout_by(rules, graph, tensor, tensor.kind)) +
                  " cannot hold " + tensor.name + " without cutting values; take a wider format");
}

}  // namespace

StoreRule parse_store_rule(const std::string& text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0)
    throw UserError(
        "--store takes CLASS[,CLASS...][@GLOB]=LAYOUT, such as weight=int8:channel, not '" + text +
        "'");
  StoreRule rule{text, {}, "*", {}};
  try {
    rule.layout = parse_layout(text.substr(equals + 1));
  } catch (const UserError& error) {
    throw UserError("--store " + text + ": " + error.what());
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
  Layout layout;
  for (const StoreRule& rule : rules)
    if (matches(rule, graph, tensor, kind)) layout = rule.layout;
  return layout;
}

void store_values(Graph& graph, const std::vector<StoreRule>& rules) {
  for (const StoredTensor& tensor : stored_tensors(graph))
    if (tensor.kind != TensorClass::kBound) store_one(graph, tensor, rules);
}

void store_bounds(Graph& graph, const std::vector<StoreRule>& rules) {
  for (const StoredTensor& tensor : stored_tensors(graph))
    if (tensor.kind == TensorClass::kBound) store_bound(graph, tensor, rules);
  const std::vector<StoredTensor> all = stored_tensors(graph);
  for (const StoreRule& rule : rules)
    if (std::none_of(all.begin(), all.end(), [&](const StoredTensor& tensor) {
          return matches(rule, graph, tensor, tensor.kind);
        }))
      throw UserError("--store " + rule.text + ": the network has no such tensors");
}

void require_plain_storage(const Graph& graph, const std::string& what) {
  if (graph.storage.empty()) return;
  throw UserError(what + ": values of this network are stored as " +
                  layout_name(graph.storage.begin()->second.layout) + " (" +
                  graph.storage.begin()->first +
                  "); start from the network that it was made from, and store last");
}

}  // namespace sentinel
