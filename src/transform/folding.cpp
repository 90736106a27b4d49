#include "sentinel/transform/folding.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "sentinel/core/error.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/graph/visit.hpp"

namespace sentinel {
namespace {

/// The rule of storage without which nothing is folded, in words.
std::string needs() {
  return "folding needs integer weights with a scale per channel: " + spelled(Setting::kStore) +
         " weight=int8:channel";
}

bool suits(const Layout& layout) {
  return layout.format.kind == NumberFormat::Kind::kInteger && layout.scale_per_row;
}

/// The weights of a convolution before they are stored.
StoredTensor weight_of(const Graph& graph, NodeId conv) {
  for (StoredTensor& tensor : stored_tensors(graph))
    if (tensor.node == conv && tensor.kind == TensorClass::kWeight) return std::move(tensor);
  throw Bug("'" + graph[conv].name + "' has no weight");
}

/// Why a batch norm stays; empty where it can be folded.
std::string obstacle(const Graph& graph, NodeId norm, const std::vector<StoreRule>& rules) {
  const NodeId before = graph[norm].inputs[0];
  if (as_conv(graph[before].op) == nullptr) return "with no convolution before it";
  if (graph.consumers()[static_cast<std::size_t>(before)].size() > 1)
    return "with a convolution before it that others read too";
  if (!suits(layout_by(rules, graph, weight_of(graph, before), TensorClass::kWeight)))
    return "with weights before it that have another format";
  return "";
}

/// A batch norm of channels: x * gain + shift.
struct Affine {
  at::Tensor gain, shift;  // [C] f32 on the CPU
};

/// As LibTorch computes it.
Affine affine_of(const BatchNorm& norm) {
  const at::Tensor gain =
      at::reciprocal(at::sqrt(norm.var.to(at::kCPU) + norm.eps)) * norm.weight.to(at::kCPU);
  return {gain, norm.bias.to(at::kCPU) - norm.mean.to(at::kCPU) * gain};
}

/// The gain and shift of each row of the weight: copies have their originals'.
Affine by_row(const Affine& affine, const Op& op) {
  const auto* twice = std::get_if<DuplicatedConv>(&op);
  if (twice == nullptr) return affine;
  const at::Tensor rows =
      at::cat({at::arange(twice->out_channels(), at::kLong), at::tensor(twice->duplicated)});
  return {affine.gain.index_select(0, rows), affine.shift.index_select(0, rows)};
}

/// The ranges of a correction, which now sees the normalised channels. A negative gain swaps their
/// ends; where it is 0, all values are the same and no range is needed.
void follow(DuplicatedConv& op, const Affine& all) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  if (!op.low.defined()) return;
  const at::Tensor channels = at::tensor(op.duplicated);
  const at::Tensor gain = all.gain.index_select(0, channels),
                   shift = all.shift.index_select(0, channels);
  const at::Tensor a = op.low.to(at::kCPU) * gain + shift, b = op.high.to(at::kCPU) * gain + shift;
  const at::Tensor end = at::full_like(gain, kInfinity), none = gain == 0;
  op.low = at::where(none, -end, at::minimum(a, b)).to(op.low.device());
  op.high = at::where(none, end, at::maximum(a, b)).to(op.high.device());
}

void require_finite(const std::string& layer, const at::Tensor& values, const std::string& what) {
  if (at::isfinite(values).all().item<bool>()) return;
  throw UserError(spelled(Setting::kFoldBatchNorm) + ": a " + what + " of " + layer +
                  " is too large or not a number; check the checkpoint, or store scales as fp32");
}

void fold_into(Graph& graph, NodeId before, const Affine& affine,
               const std::vector<StoreRule>& rules) {
  const StoredTensor weight = weight_of(graph, before);
  Node& node = graph[before];
  Conv& conv = *as_conv(node.op);
  if (conv.bounds.low.defined())
    throw UserError("layer " + node.name +
                    " already has weight bounds; fold the model it was made from");
  require_finite(node.name, conv.weight, "weight");
  const Affine rows = by_row(affine, node.op);
  store_as(graph, weight.name, layout_by(rules, graph, weight, TensorClass::kWeight));
  rescale(graph, weight.name, graph.storage.at(weight.name).scale * rows.gain,
          layout_by(rules, graph, weight, TensorClass::kScale));
  at::Tensor bias = rows.shift;
  if (conv.bias.defined()) bias = bias + conv.bias.to(at::kCPU) * rows.gain;
  require_finite(node.name, graph.storage.at(weight.name).scale, "folded scale");
  require_finite(node.name, bias, "folded bias");
  conv.bias = bias.to(conv.weight.device()).contiguous();
  if (auto* twice = std::get_if<DuplicatedConv>(&node.op)) follow(*twice, affine);
}

/// The entries of the batch norm go; the bias comes behind its weight.
void reorder_entries(Graph& graph, const Node& norm, const std::string& conv) {
  std::vector<std::string>& order = graph.state_order;
  for_each_tensor(norm.op, [&](const char* suffix, const at::Tensor&) {
    order.erase(std::remove(order.begin(), order.end(), norm.name + "." + suffix), order.end());
  });
  const auto weight = std::find(order.begin(), order.end(), conv + ".weight");
  const bool there = std::find(order.begin(), order.end(), conv + ".bias") != order.end();
  if (weight != order.end() && !there) order.insert(weight + 1, conv + ".bias");
}

void fold(Graph& graph, NodeId norm, const std::vector<StoreRule>& rules) {
  const Node gone = graph[norm];
  const NodeId before = gone.inputs[0];
  fold_into(graph, before, affine_of(std::get<BatchNorm>(gone.op)), rules);
  reorder_entries(graph, gone, graph[before].name);
  graph.remove(norm);
  graph.folded = true;
}

std::string listed(const std::vector<std::string>& names) {
  constexpr std::size_t kNamed = 4;
  std::string text;
  for (std::size_t i = 0; i < std::min(kNamed, names.size()); ++i)
    text += (text.empty() ? "" : ", ") + names[i];
  return names.size() > kNamed ? fmt::format("{} and {} more", text, names.size() - kNamed) : text;
}

}  // namespace

std::string in_words(const Folding& folding) {
  const std::size_t count = folding.folded.size();
  std::string text = fmt::format("{} batch norm{} folded", count, count == 1 ? "" : "s");
  for (const auto& [reason, names] : folding.kept)
    text += fmt::format("; {} {}, {} ({})", names.size(), names.size() == 1 ? "stays" : "stay",
                        reason, listed(names));
  return text;
}

void require_foldable(const std::vector<StoreRule>& rules) {
  for (const StoreRule& rule : rules) {
    const auto& classes = rule.classes;
    const bool weights =
        std::find(classes.begin(), classes.end(), TensorClass::kWeight) != classes.end();
    if (weights && suits(rule.layout)) return;
  }
  throw UserError(spelled(Setting::kFoldBatchNorm) + ": " + needs());
}

Folding fold_batch_norm(Graph& graph, const std::vector<StoreRule>& rules) {
  Folding folding;
  for (NodeId id = 0; id < graph.size();) {
    if (!std::holds_alternative<BatchNorm>(graph[id].op)) {
      ++id;
      continue;
    }
    const std::string name = graph[id].name, reason = obstacle(graph, id, rules);
    if (reason.empty()) {
      fold(graph, id, rules);
      folding.folded.push_back(name);
    } else {
      folding.kept[reason].push_back(name);
      ++id;
    }
  }
  if (folding.folded.empty())
    throw UserError(spelled(Setting::kFoldBatchNorm) + ": " +
                    (folding.kept.empty() ? "the network has no batch norm"
                                          : in_words(folding) + "; " + needs()));
  return folding;
}

}  // namespace sentinel
