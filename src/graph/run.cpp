#include "sentinel/graph/run.hpp"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "sentinel/core/error.hpp"
#include "sentinel/graph/rules.hpp"
#include "sentinel/graph/visit.hpp"

namespace sentinel {
namespace {

using Inputs = std::vector<at::Tensor>;

/// Rows first … first + rows - 1; `weight` is the decoded one.
at::Tensor convolve(const Conv& conv, const at::Tensor& weight, const at::Tensor& x,
                    std::int64_t first, std::int64_t rows) {
  const at::Tensor bias = conv.bias.defined() ? conv.bias.narrow(0, first, rows) : at::Tensor();
  return at::conv2d(x, weight.narrow(0, first, rows), bias, conv.stride, conv.padding,
                    conv.dilation, conv.groups);
}

at::Tensor normalise(const BatchNorm& bn, const at::Tensor& x, bool training) {
  return at::batch_norm(x, bn.weight, bn.bias, bn.mean, bn.var, training, 0.1, bn.eps,
                        at::globalContext().userEnabledCuDNN());
}

/// A bound, shaped to broadcast over x.
at::Tensor broadcast_bound(const at::Tensor& bound, const at::Tensor& x) {
  if (bound.dim() != 1) return bound;
  std::vector<std::int64_t> shape(static_cast<std::size_t>(x.dim()), 1);
  shape[1] = bound.numel();
  return bound.view(shape);
}

at::Tensor activate(ActivationKind kind, const at::Tensor& x) {
  switch (kind) {
    case ActivationKind::kRelu:
      return at::relu(x);
    case ActivationKind::kRelu6:
      return at::hardtanh(x, 0, 6);
    case ActivationKind::kSilu:
      return at::silu(x);
    case ActivationKind::kSigmoid:
      return at::sigmoid(x);
    case ActivationKind::kHardswish:
      return at::hardswish(x);
    case ActivationKind::kHardsigmoid:
      return at::hardsigmoid(x);
  }
  throw Bug("unknown activation");
}

/// rules::acting_bound for tensors, shaped to broadcast over x.
at::Tensor acting_bound(const BoundedActivation& op, const at::Tensor& x) {
  at::Tensor bound = broadcast_bound(op.bound, x);
  if (op.clipping == Clipping::kRanger)
    bound = at::clamp_max(bound, std::numeric_limits<float>::max());
  if (op.kind != ActivationKind::kRelu) return bound;
  return at::where(bound > 0, bound, at::zeros({}, x.options()));
}

/// A ReLU with one bound in one pass over the memory instead of five.
at::Tensor restrict_memory(const BoundedActivation& op, const at::Tensor& x) {
  const float bound = rules::acting_bound(op.bound.item<float>(), op.clipping, op.kind);
  at::Tensor result = at::empty_like(x);
  const float* from = x.data_ptr<float>();
  float* to = result.data_ptr<float>();
  at::parallel_for(0, x.numel(), 1 << 15, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      to[i] = rules::restrict(from[i], rules::kNoLow, bound, op.clipping, op.kind);
  });
  return result;
}

/// rules::smooth for tensors, with its gradients. What becomes 0 is 0 before it is divided, so that
/// none of them is NaN.
at::Tensor smooth(const at::Tensor& x, const at::Tensor& bound) {
  const at::Tensor wide = x.to(at::kDouble), most = bound.to(at::kDouble);
  const at::Tensor kept =
      at::where((x > 0) & (wide - most <= 5), wide, at::zeros({}, wide.options()));
  return (kept / (1 + at::exp(20 * (kept - most)))).to(x.scalar_type());
}

/// smooth() of fp32 on the CPU with its slopes, in one pass over the memory instead of some thirty
/// in double.
at::Tensor smooth_with_slopes(const at::Tensor& x, const at::Tensor& bound) {
  at::Tensor value, by_x, by_bound;
  {
    const at::NoGradGuard no_grad;
    const at::Tensor values = x.contiguous(), bounds = bound.expand_as(x).contiguous();
    value = at::empty_like(values), by_x = at::empty_like(values);
    by_bound = at::empty_like(values);
    const float *from = values.data_ptr<float>(), *most = bounds.data_ptr<float>();
    float *to = value.data_ptr<float>(), *slope = by_x.data_ptr<float>(),
          *bound_slope = by_bound.data_ptr<float>();
    at::parallel_for(0, x.numel(), 1 << 15, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        to[i] = rules::smooth(from[i], most[i]);
        const double own = from[i], above = own - most[i];
        const bool kept = own > 0 && above <= 5;
        const double power = kept ? std::exp(20 * above) : 0, share = 1 / (1 + power);
        bound_slope[i] = kept ? static_cast<float>(20 * own * power * share * share) : 0;
        slope[i] = kept ? static_cast<float>(share) - bound_slope[i] : 0;
      }
    });
  }
  // What becomes 0 may be infinite, and so may a bound.
  const at::Tensor finite = at::where(value == 0, value, x),
                   limit = at::where(at::isfinite(bound), bound, at::zeros({}, x.options()));
  return value + by_x * (finite - finite.detach()) + by_bound * (limit - limit.detach());
}

// rules::restrict for tensors. Not masked_fill: LibTorch 1.13's loses channels_last.
at::Tensor restrict(const BoundedActivation& op, const at::Tensor& input) {
  require_size(op, input);
  const bool relu = op.kind == ActivationKind::kRelu;
  if (relu && op.bound.dim() == 0 && input.is_cpu() && input.scalar_type() == at::kFloat &&
      input.is_non_overlapping_and_dense() && !input.requires_grad() && !op.bound.requires_grad())
    return restrict_memory(op, input);
  const at::Tensor x = relu ? input : activate(op.kind, input);
  const at::Tensor bound = acting_bound(op, x), zero = at::zeros({}, x.options());
  at::Tensor good = relu ? x > 0 : (x == x) & (bound == bound), above = x;
  if (op.low.defined()) {
    const at::Tensor low = broadcast_bound(op.low, x);
    good = good & (op.clipping == Clipping::kRanger ? x >= low : low == low);
    above = at::where(x < low, low, x);
  }
  switch (op.clipping) {
    case Clipping::kRanger:
      return at::where(good & (x <= bound), x, zero);
    case Clipping::kRangerClamp:
      return at::where(good, at::where(x > bound, bound, above), zero);
    case Clipping::kSmooth: {
      const bool sloped = x.requires_grad() || bound.requires_grad();
      const bool memory = x.is_cpu() && x.scalar_type() == at::kFloat;
      return sloped && memory ? smooth_with_slopes(x, bound) : smooth(x, bound);
    }
  }
  throw Bug("unknown clipping");
}

at::Tensor shuffle(const at::Tensor& x, std::int64_t groups) {
  const std::int64_t n = x.size(0), c = x.size(1), h = x.size(2), w = x.size(3);
  const at::Tensor mixed = x.reshape({n, groups, c / groups, h, w}).transpose(1, 2);
  return mixed.reshape({n, c, h, w}).contiguous(x.suggest_memory_format());
}

/// The copies number `which` of a duplicated convolution; in a grouped one each reads the input
/// block of its original.
at::Tensor convolve_copies(const DuplicatedConv& op, const at::Tensor& weight, const at::Tensor& x,
                           const at::Tensor& which) {
  const std::int64_t out = op.out_channels(), width = weight.size(1);
  Conv single = op.conv;
  single.groups = 1;
  const at::Tensor rows = which + out;
  if (single.bias.defined()) single.bias = single.bias.index_select(0, rows.to(x.device()));
  const at::Tensor own = weight.index_select(0, rows.to(x.device()));
  if (op.conv.groups == 1) return convolve(single, own, x, 0, own.size(0));
  std::vector<at::Tensor> copies;
  for (std::int64_t k = 0; k < which.numel(); ++k) {
    const auto copy = static_cast<std::size_t>(which[k].item<std::int64_t>());
    const std::int64_t block = op.duplicated[copy] / (out / op.conv.groups);
    copies.push_back(convolve(single, own, x.narrow(1, block * width, width), k, 1));
  }
  return at::cat(copies, 1);
}

/// [d]: which copies read exactly as their originals. Kernels may round the two convolutions
/// differently, so that equal results alone would not show it.
at::Tensor same_rows(const DuplicatedConv& op, const at::Tensor& weight, const at::Tensor& index) {
  const std::int64_t out = op.out_channels(), copies = index.numel();
  const at::Tensor same = (weight.index_select(0, index) == weight.narrow(0, out, copies));
  const at::Tensor rows = same.reshape({copies, -1}).all(1);
  const at::Tensor& bias = op.conv.bias;
  if (!bias.defined()) return rows;
  return rows & (bias.index_select(0, index) == bias.narrow(0, out, copies));
}

/// Copies that read as their originals have their results, however a kernel rounds.
at::Tensor shown_duplicated_conv(const DuplicatedConv& op, const at::Tensor& x, NodeId id,
                                 const OnOutput& on_output) {
  const at::Tensor weight = decoded(op.conv.weight, op.conv.bounds);
  const std::int64_t out = op.out_channels();
  const at::Tensor originals = convolve(op.conv, weight, x, 0, out);
  const at::Tensor index = at::tensor(op.duplicated, at::kLong).to(x.device());
  const std::int64_t copies = index.numel();
  at::Tensor b = convolve_copies(op, weight, x, at::arange(copies, at::kLong));
  const at::Tensor same = same_rows(op, weight, index).view({1, -1, 1, 1});
  b = at::where(same, originals.index_select(1, index), b);
  at::Tensor raw = at::cat({originals, b}, 1);
  on_output(id, raw);
  const at::Tensor result = raw.narrow(1, 0, out).clone();
  return result.index_copy_(1, index,
                            correct(result.index_select(1, index), raw.narrow(1, out, copies),
                                    op.correction, op.low, op.high));
}

at::Tensor duplicated_conv(const DuplicatedConv& op, const at::Tensor& x) {
  const at::Tensor weight = decoded(op.conv.weight, op.conv.bounds);
  // Two convolutions, so that the originals are computed exactly as without duplication.
  at::Tensor originals = convolve(op.conv, weight, x, 0, op.out_channels());
  if (op.duplicated.empty()) return originals;
  const at::Tensor index = at::tensor(op.duplicated).to(x.device());
  const at::Tensor same = same_rows(op, weight, index), a = originals.index_select(1, index);
  const at::Tensor which = at::arange(index.numel(), at::kLong);
  const at::Tensor b = convolve_copies(op, weight, x, which);
  const at::Tensor merged = correct(a, b, op.correction, op.low, op.high, same);
  if (originals.requires_grad() || merged.requires_grad()) {
    return originals.index_copy(1, index, merged);
  }
  return originals.index_copy_(1, index, merged);
}

/// Evaluation mode, one operator.
struct Apply {
  const Inputs& in;

  at::Tensor operator()(const Input&) const { throw Bug("an Input is not computed"); }
  at::Tensor operator()(const Conv& op) const {
    return convolve(op, decoded(op.weight, op.bounds), in[0], 0, op.weight.size(0));
  }
  at::Tensor operator()(const DuplicatedConv& op) const { return duplicated_conv(op, in[0]); }
  at::Tensor operator()(const BatchNorm& op) const { return normalise(op, in[0], false); }
  at::Tensor operator()(const Activation& op) const { return activate(op.kind, in[0]); }
  at::Tensor operator()(const BoundedActivation& op) const { return restrict(op, in[0]); }
  at::Tensor operator()(const MaxPool& op) const {
    return at::max_pool2d(in[0], op.kernel, op.stride, op.padding, {1, 1}, op.ceil);
  }
  at::Tensor operator()(const AvgPool& op) const {
    return at::avg_pool2d(in[0], op.kernel, op.stride, op.padding);
  }
  at::Tensor operator()(const AdaptiveAvgPool& op) const {
    return at::adaptive_avg_pool2d(in[0], op.size);
  }
  at::Tensor operator()(const Add&) const {
    at::Tensor sum = at::add(in[0], in.at(1));
    for (std::size_t i = 2; i < in.size(); ++i) sum = at::add(sum, in[i]);
    return sum;
  }
  at::Tensor operator()(const Multiply&) const { return at::mul(in[0], in.at(1)); }
  at::Tensor operator()(const ChannelAffine& op) const {
    const auto numbers = [&](const std::vector<double>& values) {
      return at::tensor(values, in[0].options()).view({1, -1, 1, 1});
    };
    return at::add(at::mul(in[0], numbers(op.scale)), numbers(op.shift));
  }
  at::Tensor operator()(const Concat&) const { return at::cat(in, 1); }
  at::Tensor operator()(const Slice& op) const {
    return in[0].narrow(1, op.begin, op.end - op.begin);
  }
  at::Tensor operator()(const ChannelShuffle& op) const { return shuffle(in[0], op.groups); }
  at::Tensor operator()(const Flatten&) const { return in[0].flatten(1); }
  at::Tensor operator()(const Linear& op) const {
    return at::linear(in[0], decoded(op.weight, op.bounds), op.bias);
  }
  at::Tensor operator()(const Dropout&) const { return in[0]; }
};

/// For each node its last reader (0 where nobody reads it).
std::vector<NodeId> last_readers(const Graph& graph) {
  std::vector<NodeId> last(static_cast<std::size_t>(graph.size()), 0);
  for (NodeId id = 0; id < graph.size(); ++id) {
    for (const NodeId input : graph[id].inputs) last[static_cast<std::size_t>(input)] = id;
  }
  return last;
}

/// Computes nodes from … end by compute(op, inputs), dropping each output when its last reader
/// takes it.
template <class Compute>
at::Tensor run_dropping(const Graph& graph, const Trace& trace, NodeId from, Compute compute) {
  const NodeId start = std::max<NodeId>(from, 1);
  if (graph.size() <= start) return trace.at(static_cast<std::size_t>(graph.size() - 1));
  const std::vector<NodeId> last = last_readers(graph);
  Trace values(static_cast<std::size_t>(graph.size()));
  for (NodeId id = start; id < graph.size(); ++id) {
    const Node& node = graph[id];
    Inputs in;
    for (const NodeId input : node.inputs) {
      const auto i = static_cast<std::size_t>(input);
      in.push_back(input < start ? trace.at(i) : values[i]);
      if (!in.back().defined()) throw Bug("the output of '" + graph[input].name + "' is missing");
    }
    for (const NodeId input : node.inputs) {
      if (last[static_cast<std::size_t>(input)] == id)
        values[static_cast<std::size_t>(input)] = at::Tensor();
    }
    values[static_cast<std::size_t>(id)] = compute(id, in);
  }
  return values.back();
}

/// Inverted dropout; the mask's bits come from our generator in element order, so that training is
/// the same on every device.
at::Tensor drop(const at::Tensor& x, double probability, Rng& rng) {
  at::Tensor mask = at::empty(x.sizes(), at::TensorOptions().dtype(at::kFloat));
  float* values = mask.data_ptr<float>();
  const auto keep = static_cast<float>(1.0 / (1.0 - probability));
  for (std::int64_t i = 0; i < mask.numel(); ++i) {
    values[i] = rng.uniform() < probability ? 0.0F : keep;
  }
  return x * mask.to(x.device());
}

}  // namespace

at::Tensor decoded(const at::Tensor& weight, const WeightBounds& bounds) {
  if (!bounds.low.defined()) return weight;
  std::vector<std::int64_t> shape(static_cast<std::size_t>(weight.dim()), 1);
  if (bounds.low.dim() == 1) shape[0] = weight.size(0);
  // rules::read_weight for tensors.
  const at::Tensor good = (weight >= bounds.low.view(shape)) & (weight <= bounds.high.view(shape));
  return at::where(good, weight, at::zeros({}, weight.options()));
}

at::Tensor apply(const Op& op, const std::vector<at::Tensor>& inputs) {
  return std::visit(Apply{inputs}, op);
}

at::Tensor run(const Graph& graph, Trace& trace, NodeId from) {
  trace.resize(static_cast<std::size_t>(graph.size()));
  for (NodeId id = std::max<NodeId>(from, 1); id < graph.size(); ++id) {
    Inputs in;
    for (const NodeId input : graph[id].inputs) {
      in.push_back(trace[static_cast<std::size_t>(input)]);
      if (!in.back().defined()) throw Bug("the output of '" + graph[input].name + "' is missing");
    }
    trace[static_cast<std::size_t>(id)] = sentinel::apply(graph[id].op, in);
  }
  return trace.back();
}

at::Tensor logits(const Graph& graph, const at::Tensor& images) {
  return run_lean(graph, {images}, 0);
}

at::Tensor apply_shown(const Graph& graph, NodeId id, const Inputs& inputs,
                       const OnOutput& on_output) {
  const Op& op = graph[id].op;
  const auto* duplicated = std::get_if<DuplicatedConv>(&op);
  if (duplicated && !duplicated->duplicated.empty())
    return shown_duplicated_conv(*duplicated, inputs[0], id, on_output);
  at::Tensor result = sentinel::apply(op, inputs);
  for (const at::Tensor& input : inputs)
    if (result.is_alias_of(input)) result = result.clone();
  on_output(id, result);
  return result;
}

at::Tensor logits(const Graph& graph, const at::Tensor& images, const OnOutput& on_output) {
  at::Tensor own = images.clone();
  on_output(0, own);
  return run_dropping(graph, {own}, 0,
                      [&](NodeId id, Inputs& in) { return apply_shown(graph, id, in, on_output); });
}

at::Tensor run_lean(const Graph& graph, const Trace& trace, NodeId from) {
  return run_dropping(graph, trace, from,
                      [&](NodeId id, Inputs& in) { return sentinel::apply(graph[id].op, in); });
}

at::Tensor run_training(Graph& graph, const at::Tensor& images, Rng& dropout) {
  return run_dropping(graph, {images}, 0, [&](NodeId id, Inputs& in) {
    Op& op = graph[id].op;
    if (auto* bn = std::get_if<BatchNorm>(&op)) {
      if (bn->batches_tracked.defined()) bn->batches_tracked.add_(1);
      return normalise(*bn, in[0], true);
    }
    if (const auto* rule = std::get_if<Dropout>(&op)) {
      return drop(in[0], rule->probability, dropout);
    }
    return sentinel::apply(op, in);
  });
}

bool may_be_view(const Op& op) {
  return std::holds_alternative<Slice>(op) || std::holds_alternative<Flatten>(op) ||
         std::holds_alternative<Dropout>(op);
}

std::vector<NodeId> live_at(const Graph& graph, NodeId from) {
  std::vector<NodeId> live;
  const std::vector<NodeId> last = last_readers(graph);
  for (NodeId id = 0; id < std::min(from, graph.size()); ++id) {
    if (last[static_cast<std::size_t>(id)] >= from) live.push_back(id);
  }
  return live;
}

}  // namespace sentinel
