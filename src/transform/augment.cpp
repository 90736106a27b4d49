#include "transform/augment.hpp"

#include <algorithm>

namespace sentinel {
namespace {

constexpr std::int64_t kPadding = 4;

/// Where a pixel of the new image comes from.
struct Crop {
  std::int64_t down = 0, right = 0;  // offset in the image, -kPadding … kPadding
  bool flip = false;
};

Crop draw_crop(Rng& rng) {
  Crop crop;
  crop.down = static_cast<std::int64_t>(rng.below(2 * kPadding + 1)) - kPadding;
  crop.right = static_cast<std::int64_t>(rng.below(2 * kPadding + 1)) - kPadding;
  crop.flip = rng.below(2) == 1;
  return crop;
}

void crop_plane(const float* from, float* to, std::int64_t height, std::int64_t width,
                const Crop& crop, float black) {
  for (std::int64_t y = 0; y < height; ++y) {
    const std::int64_t row = y + crop.down;
    float* line = to + y * width;
    for (std::int64_t x = 0; x < width; ++x) {
      const std::int64_t column = x + crop.right;
      const bool inside = row >= 0 && row < height && column >= 0 && column < width;
      line[x] = inside ? from[row * width + column] : black;
    }
    if (crop.flip) std::reverse(line, line + width);
  }
}

}  // namespace

at::Tensor augment(const at::Tensor& images, const Normalisation& by, Rng& rng) {
  const at::Tensor source = images.contiguous();
  at::Tensor result = at::empty_like(source);
  const std::int64_t channels = source.size(1), height = source.size(2), width = source.size(3);
  const float* from = source.data_ptr<float>();
  float* to = result.data_ptr<float>();
  for (std::int64_t n = 0; n < source.size(0); ++n) {
    const Crop crop = draw_crop(rng);
    for (std::int64_t c = 0; c < channels; ++c) {
      const auto channel = static_cast<std::size_t>(c);
      const auto black = static_cast<float>(-by.mean[channel] / by.std[channel]);
      const std::int64_t plane = (n * channels + c) * height * width;
      crop_plane(from + plane, to + plane, height, width, crop, black);
    }
  }
  return result;
}

}  // namespace sentinel
