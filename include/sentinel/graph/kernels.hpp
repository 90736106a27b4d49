#pragma once
#include <optional>
#include <vector>

#include "sentinel/graph/graph.hpp"

/// The few kernels of our own beside LibTorch's convolutions. Activations are f32 on the CPU,
/// [N, C, H, W] in channels_last or [N, C]; each output value is a function of its own image alone,
/// computed in one fixed order.
namespace sentinel::kernels {

/// What follows a convolution up to the next one, in one pass: x * scale + shift, + other, then the
/// activation. Pointers may be null: left out.
struct Epilogue {
  const float *scale = nullptr, *shift = nullptr;  // [C], both or none
  // [C] 1: scaled and shifted with one rounding, as LibTorch does, for a product alone would be
  // infinite. None: not needed.
  const std::uint8_t* one_rounding = nullptr;
  const float* other = nullptr;           // shape and layout of x
  bool rectifies = false;                 // a ReLU
  std::optional<Clipping> clipping = {};  // of a bounded one
  const float* bound = nullptr;           // [bound_pixels, C] as they act
  std::int64_t bound_pixels = 1;          // of an image, where neurons have bounds
};
/// `to` may be `from`; both hold `pixels` rows of `channels` values.
void apply_epilogue(const float* from, float* to, std::int64_t pixels, std::int64_t channels,
                    const Epilogue& epilogue);

/// Bounds as they act (rules::acting_bound): one, [C] or, pixel by pixel, [H, W, C].
std::vector<float> acting_bounds(const BoundedActivation& op);

/// Activation, then its bounds if it has any: value by value, so that the bits do not depend
/// on the place in memory (LibTorch rounds exp otherwise behind the last whole vector). x f32
/// [N, C, ...] on the CPU, contiguous or channels_last; the result has its layout.
at::Tensor activate(const Activation& op, const at::Tensor& x);
at::Tensor activate(const BoundedActivation& op, const at::Tensor& x);

/// Output maps [N, F, H', W'] (contiguous) of single filters of a convolution over x [N, C, H, W]:
/// `filters` [F, C/groups, kh, kw] f32, filter f computes output channel channels[f] (its input
/// block and bias). Padding is skipped, never multiplied: 0 * Inf would be NaN.
at::Tensor filter_outputs(const Conv& conv, const at::Tensor& x, const at::Tensor& filters,
                          const std::vector<std::int64_t>& channels);

/// Outputs of a convolution whose input differs in one channel from an input with known outputs:
/// row k of the result [K, C', H', W'] (channels_last) is outputs[images[k]] + conv(delta[k]
/// through the weights of input channel channels[k]). `delta` [K, H, W] contiguous and finite.
/// changed[k]: whether any value of row k differs from outputs[images[k]] in a bit.
at::Tensor add_channel(const Conv& conv, const at::Tensor& outputs,
                       const std::vector<std::int64_t>& images, const at::Tensor& delta,
                       const std::vector<std::int64_t>& channels, std::vector<bool>& changed);

/// Merges copies into x [N, C, H, W] (channels_last, changed): channel duplicated[k] by
/// merge_copy with channel k of `copies` [N, d, H', W'] contiguous, whose row is low[k] ...
/// high[k]; where `own` [d] is negative with itself, else with channel own[k] of `copies`.
void merge_copies(at::Tensor& x, const DuplicatedConv& conv, const at::Tensor& copies,
                  const std::vector<std::int64_t>& own);

/// x [N, C] times a weight transposed plus bias (undefined: none): [N, O]. `rows` [O]: the
/// weight's, of C values each.
at::Tensor linear(const at::Tensor& x, const std::vector<const float*>& rows,
                  const at::Tensor& bias);

}  // namespace sentinel::kernels
