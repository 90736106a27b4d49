#include "sentinel/graph/fused.hpp"

#include <algorithm>
#include <cmath>

#include "sentinel/core/error.hpp"
#include "sentinel/graph/kernels.hpp"

namespace sentinel {
namespace {

using Inputs = std::vector<at::Tensor>;
using Readers = std::vector<std::vector<NodeId>>;

/// One that our kernel knows.
bool is_relu(const Op& op) {
  const auto* plain = std::get_if<Activation>(&op);
  const auto* bounded = std::get_if<BoundedActivation>(&op);
  return (plain && plain->kind == ActivationKind::kRelu) ||
         (bounded && bounded->kind == ActivationKind::kRelu);
}

bool adds_two(const Node& node) {
  return std::holds_alternative<Add>(node.op) && node.inputs.size() == 2 &&
         node.inputs[0] != node.inputs[1];
}

/// Nobody but this variable can see the tensor or its memory (views share the storage).
bool owned(const at::Tensor& x) {
  return x.use_count() == 1 && x.storage().use_count() == 1;
}

/// Rows of a weight that read alike; NaN differs from itself.
bool equal_rows(const at::Tensor& weight, std::int64_t a, std::int64_t b) {
  const at::Tensor first = weight.select(0, a), second = weight.select(0, b);
  const auto count = static_cast<std::size_t>(first.numel());
  // A row is dense in every memory format of ours.
  const float *x = first.data_ptr<float>(), *y = second.data_ptr<float>();
  bool equal = true;
  for (std::size_t i = 0; i < count; ++i) equal &= x[i] == y[i];
  return equal;
}

/// By number of the copy: is it stored as its original? `weight`: as read.
std::vector<bool> agreeing_copies(const DuplicatedConv& op, const at::Tensor& weight) {
  std::vector<bool> agree;
  for (std::size_t k = 0; k < op.duplicated.size(); ++k) {
    const std::int64_t row = op.duplicated[k],
                       copy = op.out_channels() + static_cast<std::int64_t>(k);
    agree.push_back(equal_rows(weight, row, copy));
    if (op.conv.bias.defined()) {
      const float* bias = op.conv.bias.data_ptr<float>();
      agree[k] = agree[k] && bias[row] == bias[copy];
    }
  }
  return agree;
}

/// The operator on some channels alone.
Op narrowed(const Op& op, const at::Tensor& channels) {
  if (const auto* bn = std::get_if<BatchNorm>(&op)) {
    BatchNorm some = *bn;
    for (at::Tensor* values : {&some.weight, &some.bias, &some.mean, &some.var})
      *values = of_channels(*values, channels);
    return some;
  }
  if (const auto* relu = std::get_if<BoundedActivation>(&op))
    return BoundedActivation{of_channels(relu->bound, channels), relu->clipping, relu->kind,
                             of_channels(relu->low, channels)};
  if (const auto* affine = std::get_if<ChannelAffine>(&op)) {
    ChannelAffine some;
    for (std::int64_t k = 0; k < channels.numel(); ++k) {
      const auto channel = static_cast<std::size_t>(channels[k].item<std::int64_t>());
      some.scale.push_back(affine->scale.at(channel));
      some.shift.push_back(affine->shift.at(channel));
    }
    return some;
  }
  return op;
}

/// From rows to rows, on the CPU. Few images go with copies of themselves (kImagesAlike).
at::Tensor convolve(const Conv& conv, const at::Tensor& x) {
  const bool of_one_value =
      conv.weight.size(2) == 1 && conv.weight.size(3) == 1 && conv.stride == Pair{1, 1};
  const std::int64_t images = x.size(0), least = of_one_value ? kImagesAlike : 2;
  if (images >= least) return in_rows(sentinel::apply(conv, {x}));
  const at::Tensor copies = in_rows(x.index_select(0, at::arange(least).remainder(images)));
  return in_rows(sentinel::apply(conv, {copies}).narrow(0, 0, images));
}

/// A mean over windows of a channel. What LibTorch rounds depends on how many channels there are,
/// so each is on its own.
at::Tensor pooled_alone(const Op& op, const at::Tensor& x) {
  const std::int64_t images = x.size(0), channels = x.size(1);
  const at::Tensor maps = x.contiguous().view({images * channels, 1, x.size(2), x.size(3)});
  const at::Tensor means = sentinel::apply(op, {maps});
  return means.view({images, channels, means.size(2), means.size(3)});
}

/// LibTorch's operator, or ours where its rounding depends on the place in memory.
at::Tensor apply_alone(const Op& op, const Inputs& in) {
  if (is_relu(op)) return sentinel::apply(op, in);
  if (const auto* plain = std::get_if<Activation>(&op))
    return kernels::activate(*plain, in_rows(in[0]));
  if (const auto* bounded = std::get_if<BoundedActivation>(&op))
    return kernels::activate(*bounded, in_rows(in[0]));
  return sentinel::apply(op, in);
}

/// Only the copies that differ from their originals are computed.
at::Tensor duplicated_conv(const DuplicatedConv& op, const at::Tensor& x) {
  const std::int64_t out = op.out_channels();
  Conv originals = op.conv;
  const at::Tensor weight = decoded(op.conv.weight, op.conv.bounds);
  originals.bounds = {};
  originals.weight = weight.narrow(0, 0, out);
  if (originals.bias.defined()) originals.bias = originals.bias.narrow(0, 0, out);
  at::Tensor result = convolve(originals, in_rows(x));
  std::vector<std::int64_t> own, channels, rows;
  const std::vector<bool> agree = agreeing_copies(op, weight);
  for (std::size_t k = 0; k < op.duplicated.size(); ++k) {
    own.push_back(agree[k] ? -1 : static_cast<std::int64_t>(rows.size()));
    if (agree[k]) continue;
    rows.push_back(out + static_cast<std::int64_t>(k));
    channels.push_back(op.duplicated[k]);
  }
  at::Tensor copies;
  if (!rows.empty()) {
    const at::Tensor index = at::tensor(rows);
    // A copy reads the input block of its original and has a bias of its own.
    Conv geometry = op.conv;
    geometry.weight = originals.weight;
    geometry.bias = at::Tensor();
    copies = kernels::filter_outputs(geometry, x, weight.index_select(0, index), channels);
    if (op.conv.bias.defined())
      copies.add_(op.conv.bias.index_select(0, index).view({1, -1, 1, 1}));
  }
  kernels::merge_copies(result, op, copies, own);
  return result;
}

}  // namespace

at::Tensor in_rows(const at::Tensor& x) {
  if (x.dim() != 4) return x.contiguous();
  const at::Tensor rows = x.contiguous(at::MemoryFormat::ChannelsLast);
  const std::int64_t c = x.size(1), h = x.size(2), w = x.size(3);
  const std::vector<std::int64_t> strides = {c * h * w, 1, w * c, c};
  return rows.strides() == at::IntArrayRef(strides) ? rows : rows.as_strided(x.sizes(), strides);
}

at::Tensor of_channels(const at::Tensor& per_channel, const at::Tensor& channels) {
  return per_channel.defined() && per_channel.dim() > 0 ? per_channel.index_select(0, channels)
                                                        : per_channel;
}

bool copies_agree(const DuplicatedConv& op) {
  const std::vector<bool> agree = agreeing_copies(op, op.conv.weight);
  return std::find(agree.begin(), agree.end(), false) == agree.end();
}

FusedNet::FusedNet(const Graph& graph)
    : graph_(graph), values_(index(graph.size())), value_of_(index(graph.size())) {
  const Readers readers = graph.consumers();
  for (NodeId id = 1; id < graph.size(); ++id) fuse(id, readers);
  for (NodeId id = 1; id < graph.size(); ++id) {
    values_[index(id)].constants = constants_of(values_[index(id)], {});
    for (const NodeId part : parts(id)) value_of_[index(part)] = id;
    for (const NodeId input : inputs(id)) values_[index(input)].last_reader = id;
  }
}

/// Takes over the value that this node continues: only where nobody else reads that one, and in the
/// order normalisation, add, activation.
void FusedNet::fuse(NodeId id, const Readers& readers) {
  const Node& node = graph_[id];
  Value& value = values_[index(id)];
  value.parts = {id};
  value.inputs = node.inputs;
  const bool adds = adds_two(node);
  if (!adds && !is_relu(node.op)) return;
  for (std::size_t k = 0; k < (adds ? 2 : 1); ++k) {
    const NodeId before = node.inputs[k];
    if (before == 0 || readers[index(before)].size() != 1) continue;
    const Op& last = graph_[before].op;
    const bool normalises = std::holds_alternative<BatchNorm>(last);
    if (!normalises && (adds || !adds_two(graph_[before]))) continue;
    Value& taken = values_[index(before)];
    value.parts = std::move(taken.parts);
    value.parts.push_back(id);
    value.inputs = std::move(taken.inputs);
    if (adds) value.inputs.push_back(node.inputs[1 - k]);
    taken = {};
    return;
  }
}

const Op& FusedNet::op(NodeId node, const Overlay& overlay) const {
  const auto found = overlay.ops.find(node);
  return found == overlay.ops.end() ? graph_[node].op : found->second;
}

FusedNet::Constants FusedNet::constants_of(const Value& value, const Overlay& overlay) const {
  Constants constants;
  for (const NodeId part : value.parts) {
    if (const auto* bn = std::get_if<BatchNorm>(&op(part, overlay))) {
      const at::Tensor var = bn->var.to(at::kCPU), mean = bn->mean.to(at::kCPU),
                       weight = bn->weight.to(at::kCPU), bias = bn->bias.to(at::kCPU);
      for (std::int64_t c = 0; c < var.numel(); ++c) {
        // As LibTorch's kernel does.
        const float inverse =
            1.0F / std::sqrt(var.data_ptr<float>()[c] + static_cast<float>(bn->eps));
        constants.scale.push_back(inverse * weight.data_ptr<float>()[c]);
        constants.shift.push_back(bias.data_ptr<float>()[c] -
                                  mean.data_ptr<float>()[c] * constants.scale.back());
      }
    }
    if (const auto* bounded = std::get_if<BoundedActivation>(&op(part, overlay)))
      constants.bound = kernels::acting_bounds(*bounded);
  }
  // Others cannot bring an infinite product back.
  const auto is_huge = [](float shift) { return std::abs(shift) > 1e30F; };
  if (std::any_of(constants.shift.begin(), constants.shift.end(), is_huge))
    for (const float shift : constants.shift)
      constants.one_rounding.push_back(is_huge(shift) ? 1 : 0);
  return constants;
}

NodeId FusedNet::first_value(const std::vector<NodeId>& nodes) const {
  NodeId first = value_of(nodes.at(0));
  for (const NodeId node : nodes) first = std::min(first, value_of(node));
  return first;
}

std::vector<NodeId> FusedNet::live_at(NodeId from) const {
  std::vector<NodeId> live;
  for (NodeId id = 0; id < std::min(from, graph_.size()); ++id)
    if (is_value(id) && last_reader(id) >= from) live.push_back(id);
  return live;
}

at::Tensor FusedNet::compute_parts(NodeId id, const Inputs& in, const Step& step) const {
  const std::vector<NodeId>& parts = this->parts(id);
  const bool normalises = std::holds_alternative<BatchNorm>(graph_[parts[0]].op);
  at::Tensor x = step(parts[0], normalises ? Inputs{in[0]} : in);
  for (std::size_t p = 1; p < parts.size(); ++p) {
    const bool adds = std::holds_alternative<Add>(graph_[parts[p]].op);
    x = step(parts[p], adds ? Inputs{x, in[1]} : Inputs{x});
  }
  return x;
}

at::Tensor FusedNet::compute_channels(NodeId id, const Inputs& in,
                                      const at::Tensor& channels) const {
  return compute_parts(id, in, [&](NodeId part, const Inputs& own) {
    const Op& whole = graph_[part].op;
    const bool means =
        std::holds_alternative<AvgPool>(whole) || std::holds_alternative<AdaptiveAvgPool>(whole);
    return means ? pooled_alone(whole, own[0]) : apply_alone(narrowed(whole, channels), own);
  });
}

at::Tensor FusedNet::compute_shown(NodeId id, const Inputs& in, const OnOutput& on_output) const {
  return compute_parts(id, in, [&](NodeId part, const Inputs& own) {
    return apply_shown(graph_, part, own, on_output);
  });
}

/// Normalisation, add and activation by our kernel.
at::Tensor FusedNet::in_one_pass(const Value& value, Inputs& in, const Overlay& overlay) const {
  const bool changed = std::any_of(value.parts.begin(), value.parts.end(),
                                   [&](NodeId part) { return overlay.ops.count(part) > 0; });
  const Constants own = changed ? constants_of(value, overlay) : Constants();
  const Constants& constants = changed ? own : value.constants;
  const bool mine = owned(in[0]);
  for (at::Tensor& x : in) x = in_rows(x);
  const at::Tensor to = mine ? in[0] : at::empty_like(in[0]);
  const std::int64_t channels = to.size(1);
  std::vector<float> per_layer;
  if (constants.bound.size() == 1) per_layer.assign(index(channels), constants.bound[0]);
  const std::vector<float>& bounds = per_layer.empty() ? constants.bound : per_layer;
  kernels::Epilogue epilogue;
  if (!constants.scale.empty()) {
    epilogue.scale = constants.scale.data();
    epilogue.shift = constants.shift.data();
    if (!constants.one_rounding.empty()) epilogue.one_rounding = constants.one_rounding.data();
  }
  if (in.size() > 1) epilogue.other = in[1].data_ptr<float>();
  const Op& last = graph_[value.parts.back()].op;
  epilogue.rectifies = is_relu(last);
  if (const auto* bounded = std::get_if<BoundedActivation>(&last)) {
    require_size(*bounded, to);
    epilogue.clipping = bounded->clipping;
  }
  epilogue.bound = bounds.data();
  epilogue.bound_pixels =
      std::max<std::int64_t>(1, static_cast<std::int64_t>(bounds.size()) / channels);
  kernels::apply_epilogue(in[0].data_ptr<float>(), to.data_ptr<float>(), to.numel() / channels,
                          channels, epilogue);
  return to;
}

at::Tensor FusedNet::linear(NodeId node, const at::Tensor& x, const Overlay& overlay) const {
  const auto& linear = std::get<Linear>(op(node, overlay));
  const at::Tensor weight = decoded(linear.weight, linear.bounds).contiguous();
  std::vector<const float*> rows;
  for (std::int64_t row = 0; row < weight.size(0); ++row)
    rows.push_back(weight.data_ptr<float>() + row * weight.size(1));
  const auto found = overlay.rows.find(node);
  if (found != overlay.rows.end())
    for (std::size_t r = 0; r < found->second.numbers.size(); ++r)
      rows[index(found->second.numbers[r])] =
          found->second.values.data_ptr<float>() + index(weight.size(1)) * r;
  return kernels::linear(x, rows, linear.bias);
}

at::Tensor FusedNet::compute(NodeId id, Inputs in, const Overlay& overlay) const {
  const Value& value = values_[index(id)];
  const Op& first = op(value.parts.at(0), overlay);
  if (!in.at(0).is_cpu() && overlay.rows.count(id) > 0)
    throw Bug("rows of a linear layer are read on the CPU alone");
  if (!in.at(0).is_cpu())
    return compute_parts(id, in, [&](NodeId part, const Inputs& own) {
      return sentinel::apply(op(part, overlay), own);
    });
  if (value.parts.size() > 1 || std::holds_alternative<BatchNorm>(first) || is_relu(first) ||
      adds_two(graph_[value.parts[0]]))
    return in_one_pass(value, in, overlay);
  if (std::holds_alternative<Linear>(first)) return linear(id, in[0], overlay);
  if (const auto* duplicated = std::get_if<DuplicatedConv>(&first))
    return duplicated_conv(*duplicated, in[0]);
  for (at::Tensor& x : in) x = in_rows(x);
  if (const auto* conv = std::get_if<Conv>(&first)) return convolve(*conv, in[0]);
  return apply_alone(first, in);
}

at::Tensor FusedNet::run(Trace trace, NodeId from, const Overlay& overlay) const {
  for (NodeId id = std::max<NodeId>(from, 1); id < graph_.size(); ++id) {
    at::Tensor& value = trace[index(id)];
    if (!is_value(id) || value.defined()) continue;
    Inputs in;
    for (const NodeId input : inputs(id)) {
      at::Tensor& source = trace[index(input)];
      if (!source.defined()) throw Bug("the output of '" + graph_[input].name + "' is missing");
      in.push_back(source);
    }
    for (const NodeId input : inputs(id))
      if (last_reader(input) == id) trace[index(input)] = at::Tensor();
    value = compute(id, std::move(in), overlay);
  }
  return trace.back();
}

}  // namespace sentinel
