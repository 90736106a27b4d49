#include "sentinel/graph/ops.hpp"

#include <c10/util/StringUtil.h>

#include "sentinel/core/error.hpp"

namespace sentinel {

const WeightBounds* weight_bounds_of(const Op& op) {
  if (const Conv* conv = as_conv(op)) return &conv->bounds;
  const auto* linear = std::get_if<Linear>(&op);
  return linear ? &linear->bounds : nullptr;
}

WeightBounds* weight_bounds_of(Op& op) {
  return const_cast<WeightBounds*>(weight_bounds_of(static_cast<const Op&>(op)));
}

BoundsPer bounds_per(const BoundedActivation& op) {
  if (op.bound.dim() == 0) return BoundsPer::kLayer;
  return op.bound.dim() == 1 ? BoundsPer::kChannel : BoundsPer::kNeuron;
}

void require_size(const BoundedActivation& op, const at::Tensor& x) {
  if (bounds_per(op) != BoundsPer::kNeuron || x.sizes().slice(1) == op.bound.sizes()) return;
  throw UserError(c10::str("the bounds of single neurons are for maps ", op.bound.sizes(), ", not ",
                           x.sizes().slice(1),
                           "; images of another size need bounds per channel or layer"));
}

std::string op_name(const Op& op) {
  return std::visit(
      [](const auto& own) -> std::string {
        using T = std::decay_t<decltype(own)>;
        if constexpr (std::is_same_v<T, Activation>)
          return activation_name(own.kind);
        else if constexpr (std::is_same_v<T, BoundedActivation>)
          return std::string("bounded_") + activation_name(own.kind);
        else
          return T::kName;
      },
      op);
}

const char* activation_name(ActivationKind kind) {
  switch (kind) {
    case ActivationKind::kRelu:
      return "relu";
    case ActivationKind::kRelu6:
      return "relu6";
    case ActivationKind::kSilu:
      return "silu";
    case ActivationKind::kSigmoid:
      return "sigmoid";
    case ActivationKind::kHardswish:
      return "hardswish";
    case ActivationKind::kHardsigmoid:
      return "hardsigmoid";
  }
  throw Bug("unknown activation");
}

const Conv* as_conv(const Op& op) {
  if (const auto* conv = std::get_if<Conv>(&op)) return conv;
  if (const auto* duplicated = std::get_if<DuplicatedConv>(&op)) return &duplicated->conv;
  return nullptr;
}

Conv* as_conv(Op& op) {
  return const_cast<Conv*>(as_conv(static_cast<const Op&>(op)));
}

std::int64_t out_channels_of(const Op& op) {
  if (const auto* duplicated = std::get_if<DuplicatedConv>(&op)) return duplicated->out_channels();
  if (const Conv* conv = as_conv(op)) return conv->weight.size(0);
  const auto* linear = std::get_if<Linear>(&op);
  return linear ? linear->weight.size(0) : 0;
}

}  // namespace sentinel
