#pragma once
#include <ATen/ATen.h>

#include <array>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace sentinel {

using Pair = std::array<std::int64_t, 2>;  // {height, width}

/// Merging of a duplicated channel's two results a (original) and b (copy); copies with
/// |a-b| <= 1e-5 max(|a|,|b|) count as equal and a passes. A finite one wins over a
/// non-finite one; of two non-finite ones 0. What passes changes by no more than a and b do where
/// they are near the threshold, so that rounding does not decide between a huge value and 0.
enum class Correction {
  kRange,  // the one inside [low, high]; of two such, or of none, the smaller magnitude;
           // the original's where they are the same to 1e-5
  kMin,    // the smaller (the seed tool's, made NaN-safe)
};
enum class Clipping {
  kRanger,       // x > bound -> 0 (the seed tool's)
  kRangerClamp,  // x > bound -> bound (Chen et al., "A Low-cost Fault Corrector ...", DSN 2021)
  kSmooth,  // x / (1 + exp(20 (x - bound))), 0 from bound + 5 on; of ReLUs alone (FitAct, ProAct)
};
/// Order of the rows of a duplicated convolution in a checkpoint; in memory it is always kOwn.
enum class RowLayout {
  kOwn,    // [all originals in order | copies]
  kGroup,  // [d originals | their copies | the other originals], the seed tool's
};

// ---- operators: tensors are f32 on one device; activations are [N, C, H, W] or, after Flatten,
// [N, C]. Each has a name, but activations, which are called by their function. ----

struct Input {
  static constexpr const char* kName = "input";
  std::int64_t channels = 3;
  Pair size{32, 32};
};
/// Weight bounds: wherever a stored weight is used, a value outside [low, high] or not
/// finite counts as 0. Undefined: no bounds.
struct WeightBounds {
  at::Tensor low, high;  // [] per layer, or one for each row of the weight, copies included
};
struct Conv {
  static constexpr const char* kName = "conv";
  at::Tensor weight;  // [out, in/groups, kh, kw], as stored
  at::Tensor bias;    // [out] or undefined
  Pair stride{1, 1}, padding{0, 0}, dilation{1, 1};
  std::int64_t groups = 1;
  WeightBounds bounds = {};
};
/// A Conv of which some output channels are stored and computed twice and merged by a correction.
struct DuplicatedConv {
  static constexpr const char* kName = "duplicated_conv";
  Conv conv;  // weight [out + d, ...], bias [out + d]: rows [originals | copies]
  std::vector<std::int64_t>
      duplicated;  // d channel numbers; row out + k is the copy of row duplicated[k]
  Correction correction = Correction::kRange;
  RowLayout layout = RowLayout::kOwn;
  at::Tensor low, high;  // [d] for kRange, in the units of the convolution's output; else undefined
  std::int64_t out_channels() const {
    return conv.weight.size(0) - static_cast<std::int64_t>(duplicated.size());
  }
};
struct BatchNorm {
  static constexpr const char* kName = "batch_norm";
  at::Tensor weight, bias, mean, var;  // [C]
  at::Tensor batches_tracked;          // [] i64 or undefined; only carried along
  double eps = 1e-5;
};
enum class ActivationKind { kRelu, kRelu6, kSilu, kSigmoid, kHardswish, kHardsigmoid };
/// As torch.nn.functional has them. All are bounded from below.
struct Activation {
  ActivationKind kind = ActivationKind::kRelu;
};
/// What has a bound of its own.
enum class BoundsPer { kLayer, kChannel, kNeuron };
/// An activation within bounds; NaN -> 0. What is said of `clipping` holds below `low` likewise.
struct BoundedActivation {
  at::Tensor bound;  // [] per layer, [C] per channel, [C, H, W] per neuron of maps of this size
  Clipping clipping = Clipping::kRanger;
  ActivationKind kind = ActivationKind::kRelu;
  at::Tensor low = {};  // as `bound`; undefined for ReLUs, and in networks of earlier versions
};
struct MaxPool {
  static constexpr const char* kName = "max_pool";
  Pair kernel{2, 2}, stride{2, 2}, padding{0, 0};
  bool ceil = false;  // the last window may reach beyond the border (torch's ceil_mode)
};
struct AvgPool {
  static constexpr const char* kName = "avg_pool";
  Pair kernel{2, 2}, stride{2, 2}, padding{0, 0};
};
struct AdaptiveAvgPool {
  static constexpr const char* kName = "adaptive_avg_pool";
  Pair size{1, 1};
};
struct Add {
  static constexpr const char* kName = "add";
};
/// [N, C, H, W] times a gate [N, C, 1, 1] (squeeze and excitation).
struct Multiply {
  static constexpr const char* kName = "multiply";
};
/// x * scale + shift per channel, constants of the architecture (GoogLeNet's transform_input).
struct ChannelAffine {
  static constexpr const char* kName = "channel_affine";
  std::vector<double> scale, shift;  // [C]
};
struct Concat {
  static constexpr const char* kName = "concat";
};  // along channels
/// Channels begin … end-1 of the input.
struct Slice {
  static constexpr const char* kName = "slice";
  std::int64_t begin = 0, end = 0;
};
struct ChannelShuffle {
  static constexpr const char* kName = "channel_shuffle";
  std::int64_t groups = 1;
};
struct Flatten {
  static constexpr const char* kName = "flatten";
};  // [N, C, H, W] -> [N, C*H*W]
struct Linear {
  static constexpr const char* kName = "linear";
  at::Tensor weight;  // [out, in], as stored
  at::Tensor bias;    // [out] or undefined
  WeightBounds bounds = {};
};
struct Dropout {
  static constexpr const char* kName = "dropout";
  double probability = 0.5;  // identity except in training
};

using Op = std::variant<Input, Conv, DuplicatedConv, BatchNorm, Activation, BoundedActivation,
                        MaxPool, AvgPool, AdaptiveAvgPool, Add, Multiply, ChannelAffine, Concat,
                        Slice, ChannelShuffle, Flatten, Linear, Dropout>;

/// The weight bounds of a Conv, DuplicatedConv or Linear (their tensors undefined where there are
/// none), null for other operators.
const WeightBounds* weight_bounds_of(const Op& op);
WeightBounds* weight_bounds_of(Op& op);

/// Neurons without maps are channels.
BoundsPer bounds_per(const BoundedActivation& op);
/// UserError where maps x [N, C, H, W] have another size than the neurons' bounds are for.
void require_size(const BoundedActivation& op, const at::Tensor& x);

/// "conv", "relu", "bounded_relu" …: what results call an operator.
std::string op_name(const Op& op);
/// "relu", "silu" …: torch's name of the function.
const char* activation_name(ActivationKind kind);

/// The Conv inside a Conv or DuplicatedConv, null for other operators.
const Conv* as_conv(const Op& op);
Conv* as_conv(Op& op);
/// Output channels of a Conv, DuplicatedConv or Linear, copies not counted; 0 for other operators.
std::int64_t out_channels_of(const Op& op);

}  // namespace sentinel
