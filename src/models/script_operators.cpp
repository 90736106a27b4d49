#include <algorithm>
#include <limits>
#include <optional>

#include "models/script_recorder.hpp"

// What each operator of TorchScript becomes.

namespace sentinel {
namespace {

using c10::IValue;

/// Sharing nothing with the file's module, f32, contiguous.
at::Tensor own(const at::Tensor& tensor) {
  return tensor.detach().to(at::kFloat).clone(at::MemoryFormat::Contiguous);
}

const std::map<std::string, ActivationKind>& activation_kinds() {
  static const std::map<std::string, ActivationKind> kinds{
      {"relu", ActivationKind::kRelu},           {"relu6", ActivationKind::kRelu6},
      {"silu", ActivationKind::kSilu},           {"sigmoid", ActivationKind::kSigmoid},
      {"hardswish", ActivationKind::kHardswish}, {"hardsigmoid", ActivationKind::kHardsigmoid}};
  return kinds;
}

}  // namespace

// ---- layers with parameters ----

at::Tensor ScriptRecorder::bias_of(const OperatorCall& call, const std::string& name,
                                   std::int64_t rows) const {
  const IValue& value = argument(call, name);
  if (!value.isTensor() || !value.toTensor().defined()) return {};
  const at::Tensor bias = value.toTensor();
  const bool fits = bias.dim() == 1 && bias.size(0) == rows;
  if (!fits || tracked(value) != nullptr)
    refuse(call, "with a bias that is not one constant for each output is not supported");
  return own(bias);
}

/// Zeros around maps, the same above and below, left and right: the next convolution pads as much
/// more.
void ScriptRecorder::pad(const OperatorCall& call) {
  const Tracked* from = tracked(argument(call, "self"));
  const at::Tensor maps = argument(call, "self").toTensor();
  const auto sizes = argument(call, "pad").toIntVector();
  if (from == nullptr) refuse(call, "computes 'self' from constants alone");
  if (std::all_of(sizes.begin(), sizes.end(), [](std::int64_t size) { return size == 0; }))
    return same(call);
  const IValue* mode = call.find("mode");
  const IValue* value = call.find("value");
  const bool zeros = (mode == nullptr || mode->toStringRef() == "constant") &&
                     (value == nullptr || value->isNone() || value->toScalar().toDouble() == 0);
  if (!zeros) refuse(call, "with something else than zeros is not supported");
  const bool around = maps.dim() == 4 && from->form == Form::kPlain && sizes.size() == 4 &&
                      sizes[0] == sizes[1] && sizes[2] == sizes[3] && sizes[0] >= 0 &&
                      sizes[2] >= 0;
  if (!around)
    refuse(call,
           "is supported where it adds as much above as below and left as right, to "
           "activations [N, C, H, W]; the next convolution then has that padding");
  remember(call.outputs.at(0).toTensor(), {from->node, Form::kPadded, 0, {sizes[2], sizes[0]}});
}

void ScriptRecorder::convolution(const OperatorCall& call) {
  const Tracked* from = tracked(argument(call, "input"));
  const bool padded = from != nullptr && from->form == Form::kPadded;
  const Pair around = padded ? from->padding : Pair{0, 0};
  const NodeId x = padded ? from->node : image(call, "input");
  const at::Tensor weight = argument(call, "weight").toTensor();
  const IValue* transposed = call.find("transposed");
  if (transposed != nullptr && transposed->toBool())
    refuse(call, "is a transposed convolution, which is not supported");
  if (weight.dim() != 4)
    refuse(call, "is no two-dimensional convolution; only these are supported");
  if (tracked(argument(call, "weight")) != nullptr)
    refuse(call, "has weights that depend on the images, which is not supported");
  Conv op;
  op.weight = own(weight);
  op.bias = bias_of(call, "bias", weight.size(0));
  op.stride = pair(call, "stride");
  op.dilation = pair(call, "dilation");
  op.groups = argument(call, "groups").toInt();
  const IValue& padding = argument(call, "padding");
  if (!padding.isString()) {
    op.padding = pair(call, "padding");
  } else if (padding.toStringRef() == "same") {
    for (std::size_t i = 0; i < 2; ++i) {
      const std::int64_t reach =
          op.dilation[i] * (weight.size(static_cast<std::int64_t>(i) + 2) - 1);
      if (reach % 2 != 0) refuse(call, "pads one side more than the other, which is not supported");
      op.padding[i] = reach / 2;
    }
  }
  for (std::size_t i = 0; i < 2; ++i) op.padding[i] += around[i];
  append(call, layer_name(call, weight, "conv2d"), std::move(op), {x});
}

void ScriptRecorder::batch_norm(const OperatorCall& call) {
  const NodeId x = image(call, "input");
  const IValue& running = argument(call, "running_mean");
  if (!running.isTensor() || !running.toTensor().defined())
    refuse(call, "has no running statistics (track_running_stats=False), which is not supported");
  if (argument(call, "training").toBool())
    refuse(call, "normalises by the batch: call eval() before tracing");
  const auto take = [&](const char* name) {
    const IValue& value = argument(call, name);
    if (!value.isTensor() || !value.toTensor().defined())
      refuse(call, std::string("without '") + name + "' is not supported (affine=False?)");
    return own(value.toTensor());
  };
  BatchNorm op{take("weight"), take("bias"), take("running_mean"), take("running_var"), {}};
  op.eps = argument(call, "eps").toDouble();
  const std::string name = layer_name(call, argument(call, "weight").toTensor(), "batch_norm");
  const auto counter = state_.find(name + ".num_batches_tracked");
  if (counter != state_.end()) op.batches_tracked = counter->second.detach().to(at::kLong).clone();
  append(call, name, std::move(op), {x});
}

void ScriptRecorder::linear(const OperatorCall& call) {
  const NodeId x = input(call, "input");
  const at::Tensor weight = argument(call, "weight").toTensor();
  const at::Tensor features = argument(call, "input").toTensor();
  if (features.dim() != 2 || weight.dim() != 2)
    refuse(call,
           "reads a tensor " + shape_text(features) + "; it is supported for features [N, F] only");
  if (tracked(argument(call, "weight")) != nullptr)
    refuse(call, "has weights that depend on the images, which is not supported");
  Linear op;
  op.weight = own(weight);
  op.bias = bias_of(call, "bias", weight.size(0));
  append(call, layer_name(call, weight, "linear"), std::move(op), {x});
}

void ScriptRecorder::transposed(const OperatorCall& call) {
  if (is_parameter(call.inputs.at(0)))
    transposed_.emplace(script_key(call.outputs.at(0).toTensor()), call.inputs[0].toTensor());
  else if (tracked(call.inputs[0]) != nullptr)
    refuse(call, "is not supported");
}

void ScriptRecorder::matrix_product(const OperatorCall& call) {
  const bool adds = plain_name(call.name) == "addmm";
  const std::string left = adds ? "mat1" : "self";
  const std::string right = adds || call.find("mat2") != nullptr ? "mat2" : "other";
  const NodeId x = input(call, left);
  const auto found = transposed_.find(script_key(argument(call, right).toTensor()));
  if (found == transposed_.end())
    refuse(call, "is supported as a linear layer, x weight^T + bias, only");
  Linear op;
  op.weight = own(found->second);
  if (adds) {
    if (argument(call, "beta").toScalar().toDouble() != 1 ||
        argument(call, "alpha").toScalar().toDouble() != 1)
      refuse(call, "with factors is not supported");
    op.bias = bias_of(call, "self", op.weight.size(0));
  }
  append(call, layer_name(call, found->second, "linear"), std::move(op), {x});
}

// ---- element by element ----

void ScriptRecorder::activation(const OperatorCall& call) {
  const std::string name = plain_name(call.name);
  plain(call, name, Activation{activation_kinds().at(name)}, {input(call, "self")});
}

/// Of the bounds, ReLU's and ReLU6's alone.
void ScriptRecorder::clamp(const OperatorCall& call) {
  const auto bound = [&](const char* one, const char* other) {
    const IValue* value = call.find(one) != nullptr ? call.find(one) : call.find(other);
    return value != nullptr && value->isScalar() ? std::optional(value->toScalar().toDouble())
                                                 : std::nullopt;
  };
  const auto low = bound("min", "min_val"), high = bound("max", "max_val");
  if (low != 0.0 || (high && high != 6.0))
    refuse(call, "with other bounds than those of ReLU (0) or ReLU6 (0, 6) is not supported");
  plain(call, high ? "relu6" : "relu",
        Activation{high ? ActivationKind::kRelu6 : ActivationKind::kRelu}, {input(call, "self")});
}

ScriptRecorder::Operands ScriptRecorder::operands(const OperatorCall& call, bool commutes) const {
  if (tracked(argument(call, "self")) != nullptr) return {"self", "other"};
  if (commutes) return {"other", "self"};
  refuse(call,
         "has an activation as its second operand and a constant as its first, which is not "
         "supported");
}

void ScriptRecorder::affine(const OperatorCall& call, const std::string& x,
                            const std::string& constant, bool scales, double factor) {
  const IValue& value = argument(call, constant);
  const at::Tensor before = argument(call, x).toTensor(), output = call.outputs.at(0).toTensor();
  if (before.dim() != 4)
    refuse(call, "with a constant is supported for activations [N, C, H, W] only, not for " +
                     shape_text(before) +
                     (scales ? "; a positive factor of the logits changes no prediction: leave it "
                               "out"
                             : ""));
  if (output.sizes() != before.sizes())
    refuse(call, "with a constant makes " + shape_text(output) + " of " + shape_text(before) +
                     ", which is not supported");
  if (is_trained(value))
    refuse(call,
           "with a Parameter, or what is computed from one, is not supported: faults would have no "
           "place in it; make it a buffer (register_buffer) if it is a constant");
  const std::int64_t channels = output.size(1);
  std::vector<double> values;
  if (value.isScalar()) {
    values.assign(static_cast<std::size_t>(channels), value.toScalar().toDouble());
  } else {
    const at::Tensor tensor = value.toTensor();
    const bool per_channel = tensor.numel() == channels && tensor.dim() >= 3 &&
                             tensor.size(tensor.dim() - 3) == channels;
    if (tensor.numel() != 1 && !per_channel)
      refuse(call, "with a constant " + shape_text(tensor) + " is not supported: one number, or " +
                       "one for each of the " + std::to_string(channels) + " channels is");
    const at::Tensor list = tensor.to(at::kDouble).reshape({-1}).expand({channels}).contiguous();
    values.assign(list.data_ptr<double>(), list.data_ptr<double>() + channels);
  }
  ChannelAffine op{std::vector<double>(values.size(), 1), std::vector<double>(values.size(), 0)};
  for (std::size_t i = 0; i < values.size(); ++i)
    (scales ? op.scale : op.shift)[i] = scales && factor < 0 ? 1 / values[i] : values[i] * factor;
  const std::string kind = plain_name(call.name);
  plain(call, kind, std::move(op), {image(call, x)});
}

void ScriptRecorder::sum(const OperatorCall& call) {
  const bool subtracts = plain_name(call.name) == "sub";
  const IValue *self = call.find("self"), *other = call.find("other"), *alpha = call.find("alpha");
  if (self == nullptr || other == nullptr) refuse(call, "is not supported");
  const double factor =
      (alpha != nullptr ? alpha->toScalar().toDouble() : 1) * (subtracts ? -1 : 1);
  if (tracked(*self) != nullptr && tracked(*other) != nullptr) {
    const at::Tensor a = self->toTensor(), b = other->toTensor();
    if (a.sizes() != b.sizes())
      refuse(call, "adds activations of two shapes, " + shape_text(a) + " and " + shape_text(b) +
                       ", which is not supported");
    const NodeId left = input(call, "self");
    NodeId right = input(call, "other");
    if (factor != 1) {
      const auto channels = static_cast<std::size_t>(a.dim() == 4 ? a.size(1) : 0);
      if (channels == 0) refuse(call, "with a factor is supported for [N, C, H, W] only");
      const ChannelAffine scaled{std::vector<double>(channels, factor),
                                 std::vector<double>(channels, 0)};
      right = append(call, free_name(call, "scaled"), scaled, {right});
    }
    return plain(call, "add", Add{}, {left, right});
  }
  const Operands o = operands(call, !subtracts && factor == 1);
  affine(call, o.x, o.constant, false, factor);
}

bool ScriptRecorder::is_sigmoid_of(NodeId node, NodeId x) const {
  const auto* activation = std::get_if<Activation>(&graph_[node].op);
  return activation != nullptr && activation->kind == ActivationKind::kSigmoid &&
         graph_[node].inputs.at(0) == x;
}

void ScriptRecorder::product(const OperatorCall& call) {
  const bool divides = plain_name(call.name) == "div";
  const IValue *self = call.find("self"), *other = call.find("other");
  const IValue* rounding = call.find("rounding_mode");
  if (self == nullptr || other == nullptr) refuse(call, "is not supported");
  if (rounding != nullptr && !rounding->isNone())
    refuse(call, "rounds its quotient, which is not supported");
  if (tracked(*self) != nullptr && tracked(*other) != nullptr) {
    if (divides) refuse(call, "divides one activation by another, which is not supported");
    const auto is_gate = [](const IValue& gate, const IValue& x) {
      const at::Tensor g = gate.toTensor(), t = x.toTensor();
      return g.dim() == 4 && t.dim() == 4 && g.size(1) == t.size(1) && g.size(2) == 1 &&
             g.size(3) == 1;
    };
    const NodeId a = input(call, "self"), b = input(call, "other");
    if (is_gate(*other, *self)) return plain(call, "mul", Multiply{}, {a, b});
    if (is_gate(*self, *other)) return plain(call, "mul", Multiply{}, {b, a});
    const Activation silu{ActivationKind::kSilu};
    if (is_sigmoid_of(b, a)) return plain(call, "silu", silu, {a});
    if (is_sigmoid_of(a, b)) return plain(call, "silu", silu, {b});
    refuse(call,
           "multiplies two activations of which none is a gate [N, C, 1, 1], which is not "
           "supported");
  }
  const Operands o = operands(call, !divides);
  affine(call, o.x, o.constant, true, divides ? -1 : 1);
}

// ---- pooling ----

void ScriptRecorder::max_pool(const OperatorCall& call) {
  const Pair dilation = pair(call, "dilation");
  if (dilation != Pair{1, 1}) refuse(call, "with dilation is not supported");
  MaxPool op;
  op.kernel = pair(call, "kernel_size");
  op.stride = argument(call, "stride").toIntVector().empty() ? op.kernel : pair(call, "stride");
  op.padding = pair(call, "padding");
  op.ceil = argument(call, "ceil_mode").toBool();
  plain(call, "max_pool2d", op, {image(call, "self")});
}

/// Attributes that change nothing for these maps are as good as absent.
void ScriptRecorder::avg_pool(const OperatorCall& call) {
  AvgPool op;
  op.kernel = pair(call, "kernel_size");
  op.stride = argument(call, "stride").toIntVector().empty() ? op.kernel : pair(call, "stride");
  op.padding = pair(call, "padding");
  const NodeId x = image(call, "self");
  const at::Tensor maps = argument(call, "self").toTensor(), made = call.outputs.at(0).toTensor();
  for (std::size_t i = 0; i < 2; ++i) {
    const auto dim = static_cast<std::int64_t>(i) + 2;
    const std::int64_t rest = maps.size(dim) + 2 * op.padding[i] - op.kernel[i];
    if (made.size(dim) != rest / op.stride[i] + 1)
      refuse(call,
             "with ceil_mode has a last window beyond the border of these maps, which is not "
             "supported");
  }
  const IValue& divisor = argument(call, "divisor_override");
  if (!divisor.isNone() && divisor.toInt() != op.kernel[0] * op.kernel[1])
    refuse(call, "with a divisor_override that is not the window's size is not supported");
  if (divisor.isNone() && op.padding != Pair{0, 0} && !argument(call, "count_include_pad").toBool())
    refuse(call, "with padding and count_include_pad=False is not supported");
  plain(call, "avg_pool2d", op, {x});
}

void ScriptRecorder::adaptive_avg_pool(const OperatorCall& call) {
  plain(call, "adaptive_avg_pool2d", AdaptiveAvgPool{pair(call, "output_size")},
        {image(call, "self")});
}

/// Over height and width.
void ScriptRecorder::mean(const OperatorCall& call) {
  const NodeId x = image(call, "self");
  const IValue& dims = argument(call, "dim");
  std::set<std::int64_t> over;
  if (dims.isIntList())
    for (const std::int64_t dim : dims.toIntVector()) over.insert(dim < 0 ? dim + 4 : dim);
  if (over != std::set<std::int64_t>{2, 3})
    refuse(call, "over other dimensions than height and width is not supported");
  const bool flat = !argument(call, "keepdim").toBool();
  const NodeId pooled = append(call, free_name(call, "mean"), AdaptiveAvgPool{}, {x});
  if (flat) plain(call, "flatten", Flatten{}, {pooled});
}

// ---- channels moved about ----

void ScriptRecorder::concat(const OperatorCall& call) {
  std::vector<NodeId> inputs;
  for (const at::Tensor& part : argument(call, "tensors").toTensorVector()) {
    const auto found = tracked_.find(script_key(part));
    if (found == tracked_.end() || found->second.form != Form::kPlain)
      refuse(call, "with a constant or reshaped part is not supported");
    inputs.push_back(found->second.node);
  }
  const at::Tensor output = call.outputs.at(0).toTensor();
  const std::int64_t dim = argument(call, "dim").toInt();
  if (output.dim() != 4)
    refuse(call, "of tensors " + shape_text(output) +
                     " is not supported: only activations [N, C, H, W] are joined");
  if (dim != 1 && dim != -3) refuse(call, "along something else than channels is not supported");
  plain(call, "cat", Concat{}, inputs);
}

void ScriptRecorder::pieces(const OperatorCall& call) {
  const NodeId whole = image(call, "self");
  const std::int64_t dim = argument(call, "dim").toInt();
  if (dim != 1 && dim != -3) refuse(call, "along something else than channels is not supported");
  std::int64_t begin = 0;
  for (const at::Tensor& part : tensors_of(call.outputs)) {
    slice(call, part, whole, begin);
    begin += part.size(1);
  }
}

/// x[:, a:b]; also slices that take all.
void ScriptRecorder::piece(const OperatorCall& call) {
  constexpr std::int64_t kEnd = std::numeric_limits<std::int64_t>::max();  // of x[:], traced
  const at::Tensor self = argument(call, "self").toTensor();
  const at::Tensor output = call.outputs.at(0).toTensor();
  const std::int64_t dim = argument(call, "dim").toInt();
  const IValue &start = argument(call, "start"), *end = call.find("end"), *step = call.find("step");
  const std::int64_t first = start.isNone() ? 0 : start.toInt();
  const bool all = first == 0 && end != nullptr && (end->isNone() || end->toInt() == kEnd);
  if ((dim == 0 || dim == -self.dim()) && !all)
    refuse(call, "takes another number of images than all; only x[:] is supported");
  if (output.sizes() == self.sizes()) return same(call);
  const NodeId whole = image(call, "self");
  if ((dim != 1 && dim != -3) || (step != nullptr && step->toInt() != 1))
    refuse(call, "of something else than a range of channels is not supported");
  slice(call, output, whole, first < 0 ? first + self.size(1) : first);
}

void ScriptRecorder::channel(const OperatorCall& call) {
  const NodeId whole = image(call, "self");
  const std::int64_t dim = argument(call, "dim").toInt(), index = argument(call, "index").toInt();
  if (dim != 1 && dim != -3) refuse(call, "of something else than a channel is not supported");
  const std::int64_t channels = argument(call, "self").toTensor().size(1);
  remember(call.outputs.at(0).toTensor(),
           {whole, Form::kChannel, index < 0 ? index + channels : index});
}

/// Whatever gives another shape to the same numbers in the same order.
void ScriptRecorder::reshape(const OperatorCall& call) {
  const Tracked* from = tracked(argument(call, "self"));
  const at::Tensor self = argument(call, "self").toTensor();
  const at::Tensor output = call.outputs.at(0).toTensor();
  const auto before = self.sizes(), after = output.sizes();
  if (from == nullptr) refuse(call, "is not supported");
  if (before == after) return same(call);
  const bool same_batch = !after.empty() && before[0] == after[0];
  const bool keeps_pixels = same_batch && before.size() >= 4 && after.size() >= 4 &&
                            before.slice(before.size() - 2) == after.slice(after.size() - 2);
  if (from->form == Form::kPlain && keeps_pixels && before.size() == 4 && after.size() == 5)
    return remember(output, {from->node, Form::kGrouped, after[1]});
  if (from->form == Form::kSwapped && keeps_pixels && after.size() == 4)
    return plain(call, "shuffle", ChannelShuffle{from->number}, {from->node});
  if (from->form == Form::kPlain && same_batch && before.size() == 4 && after.size() == 2)
    return plain(call, "flatten", Flatten{}, {from->node});
  if (from->form == Form::kChannel && after.size() == 4 && after[1] == 1) {
    return slice(call, output, from->node, from->number);
  }
  if (!same_batch)
    refuse(call, "makes " + shape_text(output) + " of " + shape_text(self) + ": the number of " +
                     "images at tracing stands in the file as a constant, or images and features "
                     "are mixed; write x.flatten(1) and trace again");
  refuse(call, "makes " + shape_text(output) + " of " + shape_text(self) +
                   ", which is neither a flattening nor part of a channel shuffle and is not "
                   "supported");
}

/// [N, groups, C / groups, H, W] -> [N, C / groups, groups, H, W].
void ScriptRecorder::swap(const OperatorCall& call) {
  const Tracked* from = tracked(argument(call, "self"));
  const at::Tensor self = argument(call, "self").toTensor();
  const at::Tensor output = call.outputs.at(0).toTensor();
  const bool swaps = from != nullptr && from->form == Form::kGrouped && self.dim() == 5 &&
                     output.strides() == self.transpose(1, 2).strides() &&
                     output.sizes() == self.transpose(1, 2).sizes();
  if (!swaps) refuse(call, "that is no part of a channel shuffle is not supported");
  remember(output, {from->node, Form::kSwapped, from->number});
}

void ScriptRecorder::shuffle(const OperatorCall& call) {
  plain(call, "shuffle", ChannelShuffle{argument(call, "groups").toInt()},
        {image(call, call.argument_names.at(0))});
}

// ---- nothing happens ----

void ScriptRecorder::dropout(const OperatorCall& call) {
  if (argument(call, "train").toBool()) refuse(call, "is active: call eval() before tracing");
  plain(call, "dropout", Dropout{argument(call, "p").toDouble()},
        {input(call, call.argument_names.at(0))});
}

void ScriptRecorder::same(const OperatorCall& call) {
  const at::Tensor output = call.outputs.at(0).toTensor();
  const IValue& from = call.inputs.at(0);
  if (const Tracked* found = tracked(from)) {
    if (output.scalar_type() != at::kFloat)
      refuse(call, "gives another type than 32-bit floats, which is not supported");
    return remember(output, Tracked(*found));
  }
  if (is_parameter(from) && output.scalar_type() == at::kFloat)
    parameters_.emplace(script_key(output),
                        std::string(parameters_.at(script_key(from.toTensor()))));
}

}  // namespace sentinel
