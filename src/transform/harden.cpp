#include <spdlog/spdlog.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "sentinel/core/error.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/graph/channels.hpp"
#include "sentinel/graph/profile.hpp"
#include "sentinel/graph/rules.hpp"
#include "sentinel/transform/folding.hpp"
#include "sentinel/transform/harden.hpp"
#include "transform/channel_orders.hpp"
#include "transform/quantiles.hpp"

namespace sentinel {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

void check(const Graph& graph, const DuplicationPlan& plan) {
  if (!plan.overhead && !(plan.ratio >= 0 && plan.ratio < 1)) {
    throw UserError("the hardening ratio must be at least 0 and less than 1, not " +
                    std::to_string(plan.ratio));
  }
  if (plan.overhead && plan.layout == RowLayout::kGroup)
    throw UserError("an overhead chooses channels of each convolution, not of groups");
  for (const auto& node : graph.nodes()) {
    if (std::holds_alternative<DuplicatedConv>(node.op)) {
      throw UserError("layer " + node.name +
                      " already has duplicated channels; harden the model it was made from");
    }
    const Conv* conv = as_conv(node.op);
    if (conv && conv->bounds.low.defined()) {
      throw UserError("layer " + node.name +
                      " already has weight bounds; harden the model it was made from");
    }
  }
}

Op duplicate(const Conv& conv, std::vector<std::int64_t> channels, RowLayout layout,
             Correction correction) {
  const auto options = at::TensorOptions(at::kLong);
  const auto rows = at::tensor(channels, options).to(conv.weight.device());
  DuplicatedConv op;
  op.conv = conv;
  op.conv.weight = at::cat({conv.weight, conv.weight.index_select(0, rows)}).contiguous();
  if (conv.bias.defined()) op.conv.bias = at::cat({conv.bias, conv.bias.index_select(0, rows)});
  if (correction == Correction::kRange) {
    op.high =
        at::full({static_cast<std::int64_t>(channels.size())}, kInfinity, conv.weight.options());
    op.low = -op.high;
  }
  op.duplicated = std::move(channels);
  op.correction = correction;
  op.layout = layout;
  return op;
}

/// Copies have their originals' scales.
void duplicate_scales(Graph& graph, NodeId node) {
  const auto stored = graph.storage.find(graph[node].name + ".weight");
  if (stored == graph.storage.end() || !has_row_scales(stored->second)) return;
  at::Tensor& scale = stored->second.scale;
  const auto copies = at::tensor(std::get<DuplicatedConv>(graph[node].op).duplicated);
  scale = at::cat({scale, scale.index_select(0, copies)});
}

/// Convolutions of which one permutable group holds every channel, so that after sorting the first
/// ones are the group's best.
std::vector<bool> led_by_group(const Graph& graph) {
  std::vector<bool> led(static_cast<std::size_t>(graph.size()), false);
  for (const auto& group : channel_groups(graph)) {
    for (const auto& member : group.members) {
      const Conv* conv = as_conv(graph[member.node].op);
      if (!conv || member.side != GroupMember::Side::kOut) continue;
      const auto covered = static_cast<std::int64_t>(member.index.size());
      led[static_cast<std::size_t>(member.node)] =
          group.permutable && member.copies == 1 && covered == conv->weight.size(0);
    }
  }
  return led;
}

/// Scores of the channels in their new order.
std::vector<double> renumbered(const std::vector<double>& scores, const NodeOrder& order) {
  std::vector<double> result;
  for (std::int64_t channel : order.out) {
    result.push_back(scores.at(static_cast<std::size_t>(channel)));
  }
  return result;
}

std::vector<std::int64_t> first_channels(std::int64_t count) {
  std::vector<std::int64_t> channels;
  for (std::int64_t c = 0; c < count; ++c) channels.push_back(c);
  return channels;
}

/// [min, max] of a weight as its bounds.
void bound(const std::string& layer, const at::Tensor& weight, WeightBounds& bounds,
           WeightBoundsPer per) {
  if (bounds.low.defined()) {
    throw UserError("layer " + layer +
                    " already has weight bounds; bound the model it was made from");
  }
  if (!at::isfinite(weight).all().item<bool>()) {
    throw UserError("layer " + layer + " has weights that are not finite; check the checkpoint");
  }
  const at::Tensor rows = weight.detach().contiguous().flatten(1);
  bounds = per == WeightBoundsPer::kChannel ? WeightBounds{at::amin(rows, 1), at::amax(rows, 1)}
                                            : WeightBounds{rows.min(), rows.max()};
}

at::Device device_of(const Graph& graph) {
  for (const auto& node : graph.nodes()) {
    if (const Conv* conv = as_conv(node.op)) return conv->weight.device();
    if (const auto* linear = std::get_if<Linear>(&node.op)) return linear->weight.device();
  }
  return at::kCPU;
}

/// From the weights as they are now.
void renew_weight_bounds(Graph& graph) {
  std::optional<WeightBoundsPer> per;
  for (NodeId id = 0; id < graph.size(); ++id) {
    WeightBounds* bounds = weight_bounds_of(graph[id].op);
    if (!bounds || !bounds->low.defined()) continue;
    per = bounds->low.dim() == 0 ? WeightBoundsPer::kLayer : WeightBoundsPer::kChannel;
    *bounds = {};
  }
  if (per) graph = bound_weights(graph, *per);
}

}  // namespace

std::int64_t share_of(std::int64_t channels, double ratio) {
  return static_cast<std::int64_t>(static_cast<double>(channels) * ratio);
}

std::int64_t duplicate_count(std::int64_t channels, double ratio) {
  return std::max<std::int64_t>(1, share_of(channels, ratio));
}

bool duplicates(const DuplicationPlan& plan) {
  return plan.overhead || plan.ratio != 0;  // ratios that are none are refused later
}

namespace {

/// Copies of each scored layer.
std::vector<std::int64_t> copy_counts(const Graph& graph, const ChannelScores& scores,
                                      const DuplicationPlan& plan) {
  if (plan.overhead) return copies_within(*plan.overhead, graph, scores);
  std::vector<std::int64_t> counts;
  for (const LayerScores& layer : scores)
    counts.push_back(duplicate_count(static_cast<std::int64_t>(layer.scores.size()), plan.ratio));
  return counts;
}

}  // namespace

Graph duplicate_channels(const Graph& graph, const ChannelScores& scores,
                         const DuplicationPlan& plan) {
  if (!duplicates(plan)) return graph.clone();
  check(graph, plan);
  const bool grouped = plan.layout == RowLayout::kGroup;
  const auto orders =
      grouped ? channel_orders(graph, scores, plan.group_score) : identity_orders(graph, scores);
  const auto led = led_by_group(graph);
  Graph hardened = reordered(graph, orders);
  const std::vector<std::int64_t> counts = copy_counts(graph, scores, plan);
  for (std::size_t k = 0; k < scores.size(); ++k) {
    if (counts[k] == 0) continue;
    const LayerScores& layer = scores[k];
    const auto node = static_cast<std::size_t>(layer.node);
    const Conv& conv = std::get<Conv>(hardened[layer.node].op);
    const bool leading = grouped && led[node];
    auto channels =
        leading ? first_channels(counts[k]) : descending(renumbered(layer.scores, orders[node]));
    channels.resize(static_cast<std::size_t>(counts[k]));
    hardened[layer.node].op = duplicate(
        conv, std::move(channels), leading ? RowLayout::kGroup : RowLayout::kOwn, plan.correction);
    duplicate_scales(hardened, layer.node);
  }
  return hardened;
}

Graph restrict_activations(const Graph& graph, Clipping clipping, BoundsPer per) {
  Graph restricted = graph.clone();
  const auto shapes = output_shapes(graph);
  const auto options = at::TensorOptions(at::kFloat).device(device_of(graph));
  bool any = false;
  for (NodeId id = 0; id < restricted.size(); ++id) {
    Node& node = restricted[id];
    if (std::holds_alternative<BoundedActivation>(node.op)) {
      throw UserError("the activations after " + node.name +
                      " are restricted already; restrict the model it was made from");
    }
    const auto* plain = std::get_if<Activation>(&node.op);
    if (!plain) continue;
    if (!rules::can_restrict(clipping, plain->kind))
      throw UserError(spelled(Setting::kClipping) + " smooth is for ReLUs alone, and " + node.name +
                      " is a " + activation_name(plain->kind) + "; choose ranger or ranger-clamp");
    std::vector<std::int64_t> shape = shapes[static_cast<std::size_t>(id)];
    if (per == BoundsPer::kLayer) shape.clear();
    if (per == BoundsPer::kChannel) shape.resize(1);
    BoundedActivation bounded{at::full(shape, kInfinity, options), clipping, plain->kind};
    if (plain->kind != ActivationKind::kRelu) bounded.low = -bounded.bound;
    node.op = std::move(bounded);
    any = true;
  }
  if (!any)
    throw UserError(spelled(Setting::kClipping) + " " + rules::clipping_name(clipping) +
                    ": the network has no activations to bound; give " +
                    spelled(Setting::kClipping) + " none");
  return restricted;
}

Graph bound_weights(const Graph& graph, WeightBoundsPer per) {
  Graph bounded = graph.clone();
  for (NodeId id = 0; id < bounded.size(); ++id) {
    Node& node = bounded[id];
    if (Conv* conv = as_conv(node.op)) {
      bound(node.name, conv->weight, conv->bounds, per);
    } else if (auto* linear = std::get_if<Linear>(&node.op)) {
      bound(node.name, linear->weight, linear->bounds, per);
    }
  }
  return bounded;
}

void remove_weight_bounds(Graph& graph) {
  for (NodeId id = 0; id < graph.size(); ++id)
    if (WeightBounds* bounds = weight_bounds_of(graph[id].op)) *bounds = {};
}

namespace {

/// Weights that are bounded stay as they are stored: others could lie outside.
void check_bounded(const Graph& graph, const std::vector<StoreRule>& rules) {
  for (const StoredTensor& tensor : stored_tensors(graph)) {
    if (tensor.kind != TensorClass::kWeight) continue;
    const WeightBounds* bounds = weight_bounds_of(graph[tensor.node].op);
    const Layout layout = layout_by(rules, graph, tensor, TensorClass::kWeight);
    if (bounds->low.defined() && !(layout == tensor.layout))
      throw UserError("layer " + graph[tensor.node].name +
                      " already has weight bounds; store the model it was made from");
  }
}

/// The last activation gets a bound for each of its neurons.
void bound_last_by_neuron(Graph& graph) {
  const auto shapes = output_shapes(graph);
  for (NodeId id = graph.size(); id-- > 0;) {
    auto* op = std::get_if<BoundedActivation>(&graph[id].op);
    if (!op) continue;
    op->bound = at::full(shapes[static_cast<std::size_t>(id)], kInfinity, op->bound.options());
    return;
  }
}

Graph uncalibrated(const Graph& graph, const ChannelScores& scores, const HardeningPlan& plan) {
  for (const auto& node : graph.nodes()) {
    // Calibration would set its intervals anew.
    if (plan.restricted && std::holds_alternative<DuplicatedConv>(node.op)) {
      throw UserError("layer " + node.name +
                      " already has duplicated channels; harden the model it was made from");
    }
  }
  check_bounded(graph, plan.store);
  Graph hardened = duplicate_channels(graph, scores, plan.duplication);
  if (plan.restricted) hardened = restrict_activations(hardened, plan.clipping, plan.bounds);
  if (plan.search.method == BoundMethod::kProact) bound_last_by_neuron(hardened);
  if (plan.fold_batch_norm) spdlog::info(in_words(fold_batch_norm(hardened, plan.store)));
  store_values(hardened, plan.store);
  if (plan.weight_bounds) hardened = bound_weights(hardened, *plan.weight_bounds);
  return hardened;
}

/// The unprotected network in the channel order of the hardened one, stored alike.
Graph profiled(const Graph& graph, const ChannelScores& scores, const HardeningPlan& plan) {
  const DuplicationPlan& duplication = plan.duplication;
  const bool sorted = duplicates(duplication) && duplication.layout == RowLayout::kGroup;
  Graph base = sorted ? sort_channels(graph, scores, duplication.group_score) : graph.clone();
  if (plan.fold_batch_norm) fold_batch_norm(base, plan.store);
  store_values(base, plan.store);
  return base;
}

}  // namespace

Graph harden(const Graph& graph, const ChannelScores& scores, const HardeningPlan& plan,
             const Dataset& calibration, const Comm& comm, at::Device device,
             const FindBounds& find) {
  Graph hardened;
  comm.agree([&] { hardened = uncalibrated(graph, scores, plan); });
  const bool intervals =
      duplicates(plan.duplication) && plan.duplication.correction == Correction::kRange;
  if (plan.restricted || intervals) {
    const Graph free = profiled(graph, scores, plan);
    ActivationRanges ranges =
        activation_ranges(free, calibration, comm, device, finest_bounds(hardened));
    if (plan.restricted && plan.search.method == BoundMethod::kPercentile)
      cut_to_quantiles(ranges, free, plan.search.percentile, plan.bounds, calibration, comm,
                       device);
    calibrate(hardened, ranges);
  }
  if (find) find(hardened, calibration);
  comm.agree([&] { store_bounds(hardened, plan.store); });
  return hardened;
}

void recalibrate(Graph& graph, const Dataset& images, const Comm& comm, at::Device device) {
  renew_weight_bounds(graph);
  const auto& nodes = graph.nodes();
  const bool limited = std::any_of(nodes.begin(), nodes.end(), [](const Node& node) {
    const auto* conv = std::get_if<DuplicatedConv>(&node.op);
    return std::holds_alternative<BoundedActivation>(node.op) ||
           (conv && conv->correction == Correction::kRange);
  });
  if (!limited) return;
  Graph free = graph.clone();
  remove_limits(free);
  calibrate(graph, activation_ranges(free, images, comm, device, finest_bounds(graph)));
}

}  // namespace sentinel
