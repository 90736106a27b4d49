#pragma once
#include <type_traits>
#include <variant>

#include "sentinel/graph/ops.hpp"

namespace sentinel {

/// One callable out of several lambdas, for std::visit over Op.
template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};
template <class... F>
Overloaded(F...) -> Overloaded<F...>;

namespace detail {

/// Operators that hold no tensor: plain numbers, which a tensor is not.
template <class T>
inline constexpr bool kTensorless =
    std::is_trivially_copyable_v<T> || std::is_same_v<T, ChannelAffine>;

template <class ConvOp, class Fn>
void visit_conv(ConvOp& conv, Fn& fn) {
  fn("weight", conv.weight);
  fn("bias", conv.bias);
  fn("weight_low", conv.bounds.low);
  fn("weight_high", conv.bounds.high);
}

template <class AnyOp, class Fn>
void visit_tensors(AnyOp& op, Fn& fn) {
  using T = std::decay_t<AnyOp>;
  if constexpr (std::is_same_v<T, Conv> || std::is_same_v<T, Linear>) {
    visit_conv(op, fn);
  } else if constexpr (std::is_same_v<T, DuplicatedConv>) {
    visit_conv(op.conv, fn);
    fn("range_low", op.low);
    fn("range_high", op.high);
  } else if constexpr (std::is_same_v<T, BatchNorm>) {
    fn("weight", op.weight);
    fn("bias", op.bias);
    fn("running_mean", op.mean);
    fn("running_var", op.var);
    fn("num_batches_tracked", op.batches_tracked);
  } else if constexpr (std::is_same_v<T, BoundedActivation>) {
    fn("bound", op.bound);
    fn("bound_low", op.low);
  } else {
    static_assert(kTensorless<T>, "for_each_tensor: a new operator's tensors");
  }
}

}  // namespace detail

/// Calls fn(suffix, tensor) for every tensor an operator holds, undefined ones left out; suffix is
/// the last part of its name in a checkpoint ("weight", "running_mean", "bound" ...).
template <class AnyOp, class Fn>
void for_each_tensor(AnyOp& op, Fn&& fn) {
  auto defined = [&](const char* suffix, auto& tensor) {
    if (tensor.defined()) fn(suffix, tensor);
  };
  std::visit([&](auto& kind) { detail::visit_tensors(kind, defined); }, op);
}

}  // namespace sentinel
