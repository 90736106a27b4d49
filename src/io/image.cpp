#include "image.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "sentinel/core/error.hpp"

namespace sentinel {
namespace {

bool begins_with(const Bytes& bytes, std::string_view magic) {
  return bytes.size() >= magic.size() && std::memcmp(bytes.data(), magic.data(), magic.size()) == 0;
}

// Pillow's fixed point: weights have 22 fractional bits, so that 8 bits of pixel, a sign and the
// overshoot of other filters fit into 32.
constexpr int kFraction = 22;
constexpr std::int32_t kHalf = 1 << (kFraction - 1);

/// What one output row or column is made of: `weights.size()` inputs from `first` on.
struct Taps {
  std::int64_t first = 0;
  std::vector<std::int32_t> weights;
};

/// Rounded down or, by a half added before, to the nearest.
std::int64_t whole(double value) {
  return static_cast<std::int64_t>(std::floor(value));
}

/// The triangle filter, widened by `stretch` where the image shrinks, around the middle of an
/// output pixel. In double and in Pillow's order of operations, on which the last bits depend.
Taps taps_at(std::int64_t place, std::int64_t inputs, double scale) {
  const double stretch = std::max(scale, 1.0), narrow = 1.0 / stretch;
  const double centre = (static_cast<double>(place) + 0.5) * scale;
  Taps taps{std::max<std::int64_t>(0, whole(centre - stretch + 0.5)), {}};
  const std::int64_t end = std::min(inputs, whole(centre + stretch + 0.5));
  std::vector<double> exact;
  double sum = 0;
  for (std::int64_t i = taps.first; i < end; ++i) {
    const double distance = std::abs((static_cast<double>(i) - centre + 0.5) * narrow);
    exact.push_back(distance < 1.0 ? 1.0 - distance : 0.0);
    sum += exact.back();
  }
  for (const double weight : exact)
    taps.weights.push_back(static_cast<std::int32_t>(whole(weight / sum * (1 << kFraction) + 0.5)));
  return taps;
}

/// Taps of outputs begin … begin+count-1 where `inputs` pixels become `outputs`.
std::vector<Taps> taps_of(std::int64_t inputs, std::int64_t outputs, std::int64_t begin,
                          std::int64_t count) {
  const double scale = static_cast<double>(inputs) / static_cast<double>(outputs);
  std::vector<Taps> taps;
  for (std::int64_t i = begin; i < begin + count; ++i) taps.push_back(taps_at(i, inputs, scale));
  return taps;
}

/// Weights are positive with a sum of about 1, so a sum overshoots 255 by rounding at most.
std::uint8_t rounded(std::int32_t sum) {
  return static_cast<std::uint8_t>(std::min(sum >> kFraction, 255));
}

void resize_row(const std::uint8_t* in, const std::vector<Taps>& columns, std::uint8_t* out) {
  for (const Taps& taps : columns) {
    const std::uint8_t* pixel = in + taps.first * 3;
    std::int32_t red = kHalf, green = kHalf, blue = kHalf;
    for (const std::int32_t weight : taps.weights) {
      red += weight * pixel[0];
      green += weight * pixel[1];
      blue += weight * pixel[2];
      pixel += 3;
    }
    *out++ = rounded(red);
    *out++ = rounded(green);
    *out++ = rounded(blue);
  }
}

/// One row from those that `taps` counts from `rows` on, `stride` bytes each.
void blend_rows(const std::uint8_t* rows, std::size_t stride, const Taps& taps,
                std::vector<std::int32_t>& sums, std::uint8_t* out) {
  std::fill(sums.begin(), sums.end(), kHalf);
  for (const std::int32_t weight : taps.weights) {
    for (std::size_t i = 0; i < stride; ++i) sums[i] += weight * rows[i];
    rows += stride;
  }
  for (std::size_t i = 0; i < stride; ++i) out[i] = rounded(sums[i]);
}

/// The first row or column of the middle `part` of `all`, with halves rounded to the even number
/// as Python's round does.
std::int64_t middle(std::int64_t all, std::int64_t part) {
  const std::int64_t half = (all - part) / 2;
  return half + ((all - part) % 2 == 1 ? half % 2 : 0);
}

}  // namespace

Image blank_image(std::int64_t height, std::int64_t width, const std::string& name) {
  if (width > kMaxPixels / height)
    throw DataError(name, "has " + std::to_string(width) + " x " + std::to_string(height) +
                              " pixels, more than the " + std::to_string(kMaxPixels) + " allowed");
  return {height, width, std::vector<std::uint8_t>(static_cast<std::size_t>(height * width * 3))};
}

Image decode_image(const Bytes& bytes, const std::string& name) {
  if (begins_with(bytes, "\xff\xd8\xff")) return decode_jpeg(bytes, name);
  if (begins_with(bytes, "\x89PNG\r\n\x1a\n")) return decode_png(bytes, name);
  throw DataError(
      name, bytes.empty() ? "is empty, an image is wanted" : "is neither a JPEG nor a PNG file");
}

Image resized(const Image& image, std::int64_t height, std::int64_t width, const Box& part) {
  const std::vector<Taps> columns = taps_of(image.width, width, part.left, part.width);
  const std::vector<Taps> rows = taps_of(image.height, height, part.top, part.height);
  const auto stride = static_cast<std::size_t>(part.width * 3);
  const std::int64_t first = rows.front().first;
  const std::int64_t end =
      rows.back().first + static_cast<std::int64_t>(rows.back().weights.size());
  std::vector<std::uint8_t> narrow(static_cast<std::size_t>(end - first) * stride);
  for (std::int64_t y = first; y < end; ++y)
    resize_row(image.pixels.data() + y * image.width * 3, columns,
               narrow.data() + static_cast<std::size_t>(y - first) * stride);
  Image result{part.height, part.width, {}};
  result.pixels.resize(rows.size() * stride);
  std::vector<std::int32_t> sums(stride);
  for (std::size_t y = 0; y < rows.size(); ++y)
    blend_rows(narrow.data() + static_cast<std::size_t>(rows[y].first - first) * stride, stride,
               rows[y], sums, result.pixels.data() + y * stride);
  return result;
}

Image evaluation_view(const Image& image) {
  const bool upright = image.width <= image.height;
  const std::int64_t shorter = upright ? image.width : image.height;
  const std::int64_t longer = kResizedSide * (upright ? image.height : image.width) / shorter;
  const std::int64_t height = upright ? longer : kResizedSide;
  const std::int64_t width = upright ? kResizedSide : longer;
  return resized(image, height, width,
                 {middle(height, kViewSide), middle(width, kViewSide), kViewSide, kViewSide});
}

}  // namespace sentinel
