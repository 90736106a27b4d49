#include <algorithm>
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

void ScriptRecorder::convolution(const OperatorCall& call) {
  const NodeId x = image(call, "input");
  const at::Tensor weight = argument(call, "weight").toTensor();
  const IValue* transposed = call.find("transposed");
  if (weight.dim() != 4 || (transposed != nullptr && transposed->toBool()) ||
      tracked(argument(call, "weight")) != nullptr)
    refuse(call, "is supported as a two-dimensional convolution with constant weights only");
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
  append(call, layer_name(call, weight, "conv2d"), std::move(op), {x});
}

void ScriptRecorder::batch_norm(const OperatorCall& call) {
  const NodeId x = image(call, "input");
  if (argument(call, "training").toBool())
    refuse(call, "normalises by the batch: call eval() before tracing");
  const auto take = [&](const char* name) {
    const IValue& value = argument(call, name);
    if (!value.isTensor() || !value.toTensor().defined())
      refuse(call, std::string("without '") + name + "' is not supported");
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
  if (argument(call, "input").toTensor().dim() != 2 || weight.dim() != 2 ||
      tracked(argument(call, "weight")) != nullptr)
    refuse(call, "is supported for features [N, F] only");
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

bool ScriptRecorder::affine(const OperatorCall& call, const IValue& constant, bool scales,
                            double factor) {
  const at::Tensor output = call.outputs.at(0).toTensor();
  const bool trained = constant.isTensor() && trained_.count(script_key(constant.toTensor())) > 0;
  if (trained || output.dim() != 4) return false;
  const std::int64_t channels = output.size(1);
  std::vector<double> values;
  if (constant.isScalar()) {
    values.assign(static_cast<std::size_t>(channels), constant.toScalar().toDouble());
  } else {
    const at::Tensor tensor = constant.toTensor();
    const bool per_channel = tensor.numel() == channels && tensor.dim() >= 3 &&
                             tensor.size(tensor.dim() - 3) == channels;
    if (tensor.numel() != 1 && !per_channel) return false;
    const at::Tensor list = tensor.to(at::kDouble).reshape({-1}).expand({channels}).contiguous();
    values.assign(list.data_ptr<double>(), list.data_ptr<double>() + channels);
  }
  ChannelAffine op{std::vector<double>(values.size(), 1), std::vector<double>(values.size(), 0)};
  for (std::size_t i = 0; i < values.size(); ++i)
    (scales ? op.scale : op.shift)[i] = scales && factor < 0 ? 1 / values[i] : values[i] * factor;
  const std::string kind = plain_name(call.name);
  plain(call, kind, std::move(op), {image(call, "self")});
  return true;
}

void ScriptRecorder::sum(const OperatorCall& call) {
  const bool subtracts = plain_name(call.name) == "sub";
  const IValue *self = call.find("self"), *other = call.find("other"), *alpha = call.find("alpha");
  if (self == nullptr || other == nullptr) refuse(call, "is not supported");
  const double factor =
      (alpha != nullptr ? alpha->toScalar().toDouble() : 1) * (subtracts ? -1 : 1);
  if (tracked(*self) != nullptr && tracked(*other) != nullptr) {
    const bool same_shape = self->toTensor().sizes() == other->toTensor().sizes();
    if (factor != 1 || !same_shape) refuse(call, "of other than two equal shapes is not supported");
    return plain(call, "add", Add{}, {input(call, "self"), input(call, "other")});
  }
  if (tracked(*self) == nullptr || !affine(call, *other, false, factor))
    refuse(call, "with something else than a constant, one or one per channel, is not supported");
}

void ScriptRecorder::product(const OperatorCall& call) {
  const bool divides = plain_name(call.name) == "div";
  const IValue *self = call.find("self"), *other = call.find("other");
  const IValue* rounding = call.find("rounding_mode");
  if (self == nullptr || other == nullptr || (rounding != nullptr && !rounding->isNone()))
    refuse(call, "is not supported");
  if (tracked(*self) != nullptr && tracked(*other) != nullptr) {
    const auto is_gate = [](const IValue& gate, const IValue& x) {
      const at::Tensor g = gate.toTensor(), t = x.toTensor();
      return g.dim() == 4 && t.dim() == 4 && g.size(1) == t.size(1) && g.size(2) == 1 &&
             g.size(3) == 1;
    };
    const NodeId a = input(call, "self"), b = input(call, "other");
    if (!divides && is_gate(*other, *self)) return plain(call, "mul", Multiply{}, {a, b});
    if (!divides && is_gate(*self, *other)) return plain(call, "mul", Multiply{}, {b, a});
    refuse(call, "of something else than an activation and a gate [N, C, 1, 1] is not supported");
  }
  if (tracked(*self) == nullptr || !affine(call, *other, true, divides ? -1 : 1))
    refuse(call, "with something else than a constant, one or one per channel, is not supported");
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

void ScriptRecorder::avg_pool(const OperatorCall& call) {
  AvgPool op;
  op.kernel = pair(call, "kernel_size");
  op.stride = argument(call, "stride").toIntVector().empty() ? op.kernel : pair(call, "stride");
  op.padding = pair(call, "padding");
  const bool pads = op.padding != Pair{0, 0};
  if (argument(call, "ceil_mode").toBool() || !argument(call, "divisor_override").isNone() ||
      (pads && !argument(call, "count_include_pad").toBool()))
    refuse(call, "with ceil_mode, divisor_override or count_include_pad=False is not supported");
  plain(call, "avg_pool2d", op, {image(call, "self")});
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
  if (output.dim() != 4 || (dim != 1 && dim != -3))
    refuse(call, "along something else than channels is not supported");
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
  const at::Tensor self = argument(call, "self").toTensor();
  const at::Tensor output = call.outputs.at(0).toTensor();
  if (output.sizes() == self.sizes()) return same(call);
  const NodeId whole = image(call, "self");
  const std::int64_t dim = argument(call, "dim").toInt();
  const IValue* step = call.find("step");
  if ((dim != 1 && dim != -3) || (step != nullptr && step->toInt() != 1))
    refuse(call, "of something else than a range of channels is not supported");
  const IValue& start = argument(call, "start");
  const std::int64_t first = start.isNone() ? 0 : start.toInt();
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
  refuse(call,
         "to a shape that is neither a flattening nor part of a channel shuffle is not "
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
