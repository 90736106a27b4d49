#include "sentinel/graph/kernels.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "sentinel/core/error.hpp"
#include "sentinel/graph/rules.hpp"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define SENTINEL_CLONES \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define SENTINEL_CLONES
#endif

#define SENTINEL_INLINE inline __attribute__((always_inline))

namespace sentinel::kernels {
namespace {

using Index = std::int64_t;
constexpr Index kLanes = 8;   // sums of a dot product
constexpr Index kPixels = 8;  // that a row of them is computed for at once
typedef float Lanes __attribute__((vector_size(kLanes * sizeof(float))));
typedef std::int32_t Bits __attribute__((vector_size(kLanes * sizeof(float))));

/// Window of a convolution.
struct Window {
  Index height, width, out_height, out_width, kernel_height, kernel_width;
  Pair stride, padding, dilation;
  Index outputs() const { return out_height * out_width; }
};

Index out_size(Index in, Index kernel, Index stride, Index padding, Index dilation) {
  return (in + 2 * padding - dilation * (kernel - 1) - 1) / stride + 1;
}

Window window_of(const Conv& conv, Index height, Index width) {
  const Index kh = conv.weight.size(2), kw = conv.weight.size(3);
  return {height,
          width,
          out_size(height, kh, conv.stride[0], conv.padding[0], conv.dilation[0]),
          out_size(width, kw, conv.stride[1], conv.padding[1], conv.dilation[1]),
          kh,
          kw,
          conv.stride,
          conv.padding,
          conv.dilation};
}

at::Tensor channels_last(const at::Tensor& x) {
  return x.dim() == 4 ? x.contiguous(at::MemoryFormat::ChannelsLast) : x.contiguous();
}

enum class Rectifier { kNone, kPlain, kRanger, kRangerClamp, kSmooth };

Rectifier rectifier_of(const Epilogue& e) {
  if (!e.rectifies) return Rectifier::kNone;
  if (!e.clipping) return Rectifier::kPlain;
  switch (*e.clipping) {
    case Clipping::kRanger:
      return Rectifier::kRanger;
    case Clipping::kRangerClamp:
      return Rectifier::kRangerClamp;
    case Clipping::kSmooth:
      return Rectifier::kSmooth;
  }
  throw Bug("unknown clipping");
}

enum class Scaling { kNone, kPlain, kMixed };  // kMixed: some channels with one rounding

/// rules::smooth of values that are not below 0. Most are far below their bounds: one pass without
/// a branch asks whether any is not.
SENTINEL_INLINE void smooth_row(float* row, const float* bound, Index channels) {
  std::int32_t near = 0;
  for (Index c = 0; c < channels; ++c) near |= (row[c] > 0.0F) & !(row[c] - bound[c] < -1.0F);
  if (near == 0) return;
  for (Index c = 0; c < channels; ++c)
    if (row[c] > 0.0F) row[c] = rules::smooth(row[c], bound[c]);
}

template <Scaling kScaling, bool kAdds, Rectifier kRectifier>
SENTINEL_INLINE void finish_rows(const float* from, float* to, Index pixels, Index channels,
                                 const Epilogue& e) {
  Index bounded = 0;  // pixel of the bounds
  for (Index p = 0; p < pixels; ++p) {
    const float* in = from + p * channels;
    const float* other = kAdds ? e.other + p * channels : nullptr;
    const float* bound = e.bound + bounded * channels;
    bounded = bounded + 1 == e.bound_pixels ? 0 : bounded + 1;
    float* out = to + p * channels;
#pragma GCC ivdep
    for (Index c = 0; c < channels; ++c) {
      float v = in[c];
      if constexpr (kScaling == Scaling::kMixed)
        v = e.one_rounding[c] ? std::fma(v, e.scale[c], e.shift[c]) : v * e.scale[c] + e.shift[c];
      if constexpr (kScaling == Scaling::kPlain) v = v * e.scale[c] + e.shift[c];
      if constexpr (kAdds) v = v + other[c];
      if constexpr (kRectifier == Rectifier::kPlain) v = v < 0.0F ? 0.0F : v;
      // rules::restrict, without a branch for the vectors.
      constexpr bool kClamps = kRectifier == Rectifier::kRangerClamp;
      if constexpr (kClamps || kRectifier == Rectifier::kRanger) {
        v = v > bound[c] ? (kClamps ? bound[c] : 0.0F) : v;
        v = v > 0.0F ? v : 0.0F;
      }
      if constexpr (kRectifier == Rectifier::kSmooth) v = v > 0.0F ? v : 0.0F;
      out[c] = v;
    }
    if constexpr (kRectifier == Rectifier::kSmooth) smooth_row(out, bound, channels);
  }
}

template <Scaling kScaling, bool kAdds>
SENTINEL_INLINE void finish_with(const float* from, float* to, Index pixels, Index channels,
                                 const Epilogue& e) {
  switch (rectifier_of(e)) {
    case Rectifier::kNone:
      return finish_rows<kScaling, kAdds, Rectifier::kNone>(from, to, pixels, channels, e);
    case Rectifier::kPlain:
      return finish_rows<kScaling, kAdds, Rectifier::kPlain>(from, to, pixels, channels, e);
    case Rectifier::kRanger:
      return finish_rows<kScaling, kAdds, Rectifier::kRanger>(from, to, pixels, channels, e);
    case Rectifier::kRangerClamp:
      return finish_rows<kScaling, kAdds, Rectifier::kRangerClamp>(from, to, pixels, channels, e);
    case Rectifier::kSmooth:
      return finish_rows<kScaling, kAdds, Rectifier::kSmooth>(from, to, pixels, channels, e);
  }
}

SENTINEL_INLINE void load(Lanes& lanes, const float* from) {
  std::memcpy(&lanes, from, sizeof lanes);
}

SENTINEL_INLINE float total(const Lanes& v) {
  return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

bool finite(float x) {
  return std::isfinite(x);
}

Index round_up(Index n) {
  return (n + kLanes - 1) / kLanes * kLanes;
}

/// Channels of an image with a border of zeros, their number rounded up to whole vectors; wide
/// enough for the last tile of pixels.
struct Padded {
  Index width, channels;
  std::vector<float> values;

  Padded(const Window& w, Index lanes)
      : width(w.width + 2 * w.padding[1] + kPixels * w.stride[1]),
        channels(lanes),
        values(static_cast<std::size_t>((w.height + 2 * w.padding[0]) * width * channels)) {}
  const float* at(Index row, Index column) const {
    return values.data() + (row * width + column) * channels;
  }
  /// `count` channels of each pixel of an image whose pixels have `stride` values.
  void fill(const Window& w, const float* image, Index count, Index stride) {
    for (Index y = 0; y < w.height; ++y)
      for (Index x = 0; x < w.width; ++x)
        std::copy_n(image + (y * w.width + x) * stride, count,
                    values.data() + ((y + w.padding[0]) * width + x + w.padding[1]) * channels);
  }
};

/// An output map of a filter [kh, kw, padded] over the `width` first of the `channels` values of
/// each pixel of an image; the border is skipped, as 0 * Inf would be NaN.
void filter_map_checked(const Window& w, const float* image, Index channels, Index padded,
                        Index width, const float* filter, float bias, float* out) {
  for (Index y = 0; y < w.out_height; ++y)
    for (Index x = 0; x < w.out_width; ++x) {
      float sum = 0.0F;
      for (Index i = 0; i < w.kernel_height; ++i) {
        const Index row = y * w.stride[0] - w.padding[0] + i * w.dilation[0];
        if (row < 0 || row >= w.height) continue;
        for (Index j = 0; j < w.kernel_width; ++j) {
          const Index column = x * w.stride[1] - w.padding[1] + j * w.dilation[1];
          if (column < 0 || column >= w.width) continue;
          const float* in = image + (row * w.width + column) * channels;
          const float* tap = filter + (i * w.kernel_width + j) * padded;
          for (Index c = 0; c < width; ++c) sum += in[c] * tap[c];
        }
      }
      *out++ = sum + bias;
    }
}

/// The same map of a finite filter [kh, kw, width] over a padded image.
SENTINEL_CLONES void filter_map(const Window& w, const Padded& image, const float* filter,
                                float bias, float* out) {
  const Index width = image.channels, step = w.stride[1] * width;
  for (Index y = 0; y < w.out_height; ++y)
    for (Index x = 0; x < w.out_width; x += kPixels) {
      Lanes sums[kPixels] = {};
      for (Index i = 0; i < w.kernel_height; ++i)
        for (Index j = 0; j < w.kernel_width; ++j) {
          const float* in =
              image.at(y * w.stride[0] + i * w.dilation[0], x * w.stride[1] + j * w.dilation[1]);
          const float* tap = filter + (i * w.kernel_width + j) * width;
          for (Index c = 0; c < width; c += kLanes) {
            Lanes weight, value;
            load(weight, tap + c);
            for (Index p = 0; p < kPixels; ++p) {
              load(value, in + p * step + c);
              sums[p] += value * weight;
            }
          }
        }
      const Index row = y * w.out_width;
      for (Index p = 0; p < kPixels && x + p < w.out_width; ++p)
        out[row + x + p] = total(sums[p]) + bias;
    }
}

/// to = from + a convolution of one padded channel with `weights` [kh, kw, padded], for kBlocks
/// vectors of channels (`width` of the last one are there) of rows of `channels`. `changed`
/// gathers the bits that differ.
template <Index kBlocks, bool kWhole>
SENTINEL_INLINE void spread(const Window& w, const Padded& delta, const float* weights,
                            Index padded, Index width, Index channels, const float* from, float* to,
                            Bits& changed) {
  const std::size_t bytes =
      kWhole ? sizeof(Lanes) : sizeof(float) * static_cast<std::size_t>(width);
  for (Index y = 0; y < w.out_height; ++y)
    for (Index x = 0; x < w.out_width; ++x) {
      Lanes sums[kBlocks] = {};
      for (Index i = 0; i < w.kernel_height; ++i) {
        const float* d = delta.at(y * w.stride[0] + i * w.dilation[0], x * w.stride[1]);
        const float* tap = weights + i * w.kernel_width * padded;
        for (Index j = 0; j < w.kernel_width; ++j, d += w.dilation[1], tap += padded)
          for (Index b = 0; b < kBlocks; ++b) {
            Lanes weight;
            load(weight, tap + b * kLanes);
            sums[b] += *d * weight;
          }
      }
      const Index pixel = (y * w.out_width + x) * channels;
      for (Index b = 0; b < kBlocks; ++b) {
        Lanes old = {};
        std::memcpy(&old, from + pixel + b * kLanes, bytes);
        const Lanes value = old + sums[b];
        changed |= (Bits)value ^ (Bits)old;  // NOLINT: the bits, not the numbers
        std::memcpy(to + pixel + b * kLanes, &value, bytes);
      }
    }
}

/// Whether any of the `width` channels changed.
SENTINEL_CLONES bool spread_channel(const Window& w, const Padded& delta, const float* weights,
                                    Index width, Index channels, const float* from, float* to) {
  const Index padded = round_up(width);
  Index done = 0;
  Bits changed = {};
  for (; width - done >= 4 * kLanes; done += 4 * kLanes)
    spread<4, true>(w, delta, weights + done, padded, kLanes, channels, from + done, to + done,
                    changed);
  for (; width - done >= 2 * kLanes; done += 2 * kLanes)
    spread<2, true>(w, delta, weights + done, padded, kLanes, channels, from + done, to + done,
                    changed);
  for (; width - done >= kLanes; done += kLanes)
    spread<1, true>(w, delta, weights + done, padded, kLanes, channels, from + done, to + done,
                    changed);
  if (done < width)
    spread<1, false>(w, delta, weights + done, padded, width - done, channels, from + done,
                     to + done, changed);
  std::int32_t any = 0;
  for (Index s = 0; s < kLanes; ++s) any |= changed[s];
  return any != 0;
}

/// Sums over the inputs in their order, as a plain matrix product has them: where terms are huge,
/// which sum overflows depends on it. `weights` [inputs, kLanes]: of `outputs` <= kLanes outputs.
SENTINEL_CLONES void multiply_rows(const float* x, const float* weights, Index rows, Index inputs,
                                   Index outputs, Index stride, float* out) {
  for (Index first = 0; first < rows; first += kPixels) {
    const Index count = std::min(kPixels, rows - first);
    Lanes sums[kPixels] = {};
    for (Index c = 0; c < inputs; ++c) {
      Lanes weight;
      load(weight, weights + c * kLanes);
      // Beyond the last row the first one once more.
      for (Index i = 0; i < kPixels; ++i)
        sums[i] += x[(first + (i < count ? i : 0)) * inputs + c] * weight;
    }
    for (Index i = 0; i < count; ++i)
      for (Index o = 0; o < outputs; ++o) out[(first + i) * stride + o] += sums[i][o];
  }
}

/// The weights of one input channel, [kh, kw, outputs of its group, rounded up].
std::vector<float> column_of(const Conv& conv, Index channel) {
  const at::Tensor& weight = conv.weight;
  const Index width = weight.size(1), outputs = weight.size(0) / conv.groups;
  const Index taps = weight.size(2) * weight.size(3), padded = round_up(outputs);
  const at::Tensor block = weight.narrow(0, channel / width * outputs, outputs);
  const at::Tensor column = block.select(1, channel % width).permute({1, 2, 0}).contiguous();
  std::vector<float> values(static_cast<std::size_t>(taps * padded));
  for (Index t = 0; t < taps; ++t)
    std::copy_n(column.data_ptr<float>() + t * outputs, outputs, values.data() + t * padded);
  return values;
}

/// A filter [1, width, kh, kw] as [kh, kw, width rounded up].
std::vector<float> row_of(const at::Tensor& filter) {
  const at::Tensor taps = filter.permute({0, 2, 3, 1}).contiguous();
  const Index width = filter.size(1), padded = round_up(width), count = taps.numel() / width;
  std::vector<float> values(static_cast<std::size_t>(count * padded));
  for (Index t = 0; t < count; ++t)
    std::copy_n(taps.data_ptr<float>() + t * width, width, values.data() + t * padded);
  return values;
}

// LibTorch's formulas; NaN passes where a comparison with it is false.
float clamped(float x, float low, float high) {
  const float above = x < low ? low : x;
  return above > high ? high : above;
}

/// Bounds of neurons pixel by pixel.
std::vector<float> by_pixel(const at::Tensor& bounds) {
  const at::Tensor own = bounds.to(at::kCPU);
  const at::Tensor values = (own.dim() == 3 ? own.permute({1, 2, 0}) : own).contiguous();
  return {values.data_ptr<float>(), values.data_ptr<float>() + values.numel()};
}

template <class Bounded>
at::Tensor map_values(ActivationKind kind, const at::Tensor& x, const Bounded& bounded) {
  at::Tensor result = at::empty_like(x);
  const float* from = x.data_ptr<float>();
  float* to = result.data_ptr<float>();
  const auto each = [&](const auto& function) {
    for (Index i = 0; i < x.numel(); ++i) to[i] = bounded(function(from[i]), i);
  };
  switch (kind) {
    case ActivationKind::kRelu:
      each([](float v) { return v < 0.0F ? 0.0F : v; });
      break;
    case ActivationKind::kRelu6:
      each([](float v) { return clamped(v, 0.0F, 6.0F); });
      break;
    case ActivationKind::kSilu:
      each([](float v) { return v / (1.0F + std::exp(-v)); });
      break;
    case ActivationKind::kSigmoid:
      each([](float v) { return 1.0F / (1.0F + std::exp(-v)); });
      break;
    case ActivationKind::kHardswish:
      each([](float v) { return v * clamped(v + 3.0F, 0.0F, 6.0F) / 6.0F; });
      break;
    case ActivationKind::kHardsigmoid:
      each([](float v) { return clamped(v + 3.0F, 0.0F, 6.0F) / 6.0F; });
      break;
  }
  return result;
}

}  // namespace

SENTINEL_CLONES void apply_epilogue(const float* from, float* to, Index pixels, Index channels,
                                    const Epilogue& e) {
  constexpr Scaling kNone = Scaling::kNone, kPlain = Scaling::kPlain, kMixed = Scaling::kMixed;
  if (e.scale && e.one_rounding)
    return e.other ? finish_with<kMixed, true>(from, to, pixels, channels, e)
                   : finish_with<kMixed, false>(from, to, pixels, channels, e);
  if (e.scale && e.other) return finish_with<kPlain, true>(from, to, pixels, channels, e);
  if (e.scale) return finish_with<kPlain, false>(from, to, pixels, channels, e);
  if (e.other) return finish_with<kNone, true>(from, to, pixels, channels, e);
  finish_with<kNone, false>(from, to, pixels, channels, e);
}

std::vector<float> acting_bounds(const BoundedActivation& op) {
  std::vector<float> bounds = by_pixel(op.bound);
  for (float& b : bounds) b = rules::acting_bound(b, op.clipping, op.kind);
  return bounds;
}

at::Tensor activate(const Activation& op, const at::Tensor& x) {
  return map_values(op.kind, x, [](float v, Index) { return v; });
}

at::Tensor activate(const BoundedActivation& op, const at::Tensor& x) {
  require_size(op, x);
  const std::vector<float> bounds = acting_bounds(op);
  const std::vector<float> lows =
      op.low.defined() ? by_pixel(op.low) : std::vector<float>(bounds.size(), rules::kNoLow);
  const Index count = static_cast<Index>(bounds.size()), channels = x.size(1);
  // Values in memory from one channel to the next, and of them the neurons that have bounds.
  const Index step = x.dim() == 4 && x.is_contiguous() ? x.size(2) * x.size(3) : 1;
  const Index pixels = op.bound.dim() == 3 ? step : 1;
  return map_values(op.kind, x, [&](float v, Index i) {
    const auto place = static_cast<std::size_t>(
        step == 1 ? i % count : (i % pixels * channels + i / step % channels) % count);
    return rules::restrict(v, lows[place], bounds[place], op.clipping, op.kind);
  });
}

at::Tensor filter_outputs(const Conv& conv, const at::Tensor& x, const at::Tensor& filters,
                          const std::vector<Index>& channels) {
  const at::Tensor images = channels_last(x);
  const Window window = window_of(conv, x.size(2), x.size(3));
  const Index n = x.size(0), c = x.size(1), image = c * x.size(2) * x.size(3);
  const Index count = filters.size(0), width = filters.size(1), map = window.outputs();
  const Index outputs = conv.weight.size(0) / conv.groups;
  std::vector<std::vector<float>> rows;
  for (Index f = 0; f < count; ++f) rows.push_back(row_of(filters.narrow(0, f, 1)));
  at::Tensor out = at::empty({n, count, window.out_height, window.out_width});
  Padded padded(window, round_up(width));
  for (Index i = 0; i < n; ++i) {
    const float* values = images.data_ptr<float>() + i * image;
    Index filled = -1;  // the input block that `padded` holds
    for (Index f = 0; f < count; ++f) {
      const Index channel = channels[static_cast<std::size_t>(f)];
      const Index first = channel / outputs * width;
      const std::vector<float>& row = rows[static_cast<std::size_t>(f)];
      const float bias = conv.bias.defined() ? conv.bias.data_ptr<float>()[channel] : 0.0F;
      float* to = out.data_ptr<float>() + (i * count + f) * map;
      if (!std::all_of(row.begin(), row.end(), finite)) {
        filter_map_checked(window, values + first, c, padded.channels, width, row.data(), bias, to);
        continue;
      }
      if (filled != first) padded.fill(window, values + first, width, c);
      filled = first;
      filter_map(window, padded, row.data(), bias, to);
    }
  }
  return out;
}

at::Tensor add_channel(const Conv& conv, const at::Tensor& outputs,
                       const std::vector<Index>& images, const at::Tensor& delta,
                       const std::vector<Index>& channels, std::vector<bool>& changed) {
  const at::Tensor known = channels_last(outputs);
  const Index count = delta.size(0), c = known.size(1), image = known.numel() / known.size(0);
  const Index width = conv.weight.size(1), group = c / conv.groups;
  const Window window = window_of(conv, delta.size(1), delta.size(2));
  at::Tensor out = at::empty({count, c, known.size(2), known.size(3)},
                             known.options().memory_format(at::MemoryFormat::ChannelsLast));
  std::map<Index, std::vector<float>> columns;
  Padded padded(window, 1);
  changed.assign(static_cast<std::size_t>(count), false);
  for (Index k = 0; k < count; ++k) {
    const auto at = static_cast<std::size_t>(k);
    std::vector<float>& column = columns[channels[at]];
    if (column.empty()) column = column_of(conv, channels[at]);
    const Index first = channels[at] / width * group;
    const float* from = known.data_ptr<float>() + images[at] * image;
    float* to = out.data_ptr<float>() + k * image;
    if (group != c) std::copy_n(from, image, to);
    padded.fill(window, delta.data_ptr<float>() + k * delta.size(1) * delta.size(2), 1, 1);
    changed[at] = spread_channel(window, padded, column.data(), group, c, from + first, to + first);
  }
  return out;
}

void merge_copies(at::Tensor& x, const DuplicatedConv& conv, const at::Tensor& copies,
                  const std::vector<Index>& own) {
  const Index n = x.size(0), channels = x.size(1), map = x.size(2) * x.size(3);
  const Index computed = copies.defined() ? copies.size(1) : 0;
  const bool ranged = conv.correction == Correction::kRange;
  const float* low = ranged ? conv.low.data_ptr<float>() : nullptr;
  const float* high = ranged ? conv.high.data_ptr<float>() : nullptr;
  for (Index i = 0; i < n; ++i)
    for (std::size_t k = 0; k < own.size(); ++k) {
      float* a = x.data_ptr<float>() + i * channels * map + conv.duplicated[k];
      const float* b =
          own[k] < 0 ? nullptr : copies.data_ptr<float>() + (i * computed + own[k]) * map;
      for (Index p = 0; p < map; ++p, a += channels)
        *a = rules::merge(*a, b ? b[p] : *a, conv.correction, ranged ? low[k] : 0.0F,
                          ranged ? high[k] : 0.0F);
    }
}

at::Tensor linear(const at::Tensor& x, const std::vector<const float*>& rows,
                  const at::Tensor& bias) {
  const at::Tensor values = x.contiguous();
  const Index n = x.size(0), inputs = x.size(1), outputs = static_cast<Index>(rows.size());
  at::Tensor out = at::zeros({n, outputs});
  if (bias.defined()) out.copy_(bias.expand({n, outputs}));
  std::vector<float> some(static_cast<std::size_t>(inputs * kLanes));
  for (Index first = 0; first < outputs; first += kLanes) {
    const Index count = std::min(kLanes, outputs - first);
    std::fill(some.begin(), some.end(), 0.0F);
    for (Index o = 0; o < count; ++o) {
      const float* row = rows[static_cast<std::size_t>(first + o)];
      for (Index c = 0; c < inputs; ++c) some[static_cast<std::size_t>(c * kLanes + o)] = row[c];
    }
    multiply_rows(values.data_ptr<float>(), some.data(), n, inputs, count, outputs,
                  out.data_ptr<float>() + first);
  }
  return out;
}

}  // namespace sentinel::kernels
