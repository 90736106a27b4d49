#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "sentinel/core/bytes.hpp"

// Single images, as Pillow reads and resizes them. No LibTorch here.

namespace sentinel {

/// Red, green and blue, 8 bits each.
struct Image {
  std::int64_t height = 0, width = 0;
  std::vector<std::uint8_t> pixels;  // [height, width, 3]
};

/// Images of more pixels are refused before memory is taken for them: 384 MiB as Image, and while
/// a progressive JPEG is decoded up to 768 MiB more.
inline constexpr std::int64_t kMaxPixels = std::int64_t{1} << 27;

/// Room for the pixels. Throws DataError, which calls the file `name`, where they are too many.
Image blank_image(std::int64_t height, std::int64_t width, const std::string& name);

/// A JPEG or PNG file, told apart by its first bytes. `name` is what errors call it. Throws
/// DataError where it is neither, broken, cut off, or of more than kMaxPixels.
Image decode_image(const Bytes& bytes, const std::string& name);

/// The pixels that Pillow's Image.open(file).convert("RGB") gives: CMYK and YCCK are taken as
/// inverted (Adobe's way), the EXIF orientation is ignored, what libjpeg mends (such as bits that
/// flipped within a scan) is accepted, a file without its end is not.
Image decode_jpeg(const Bytes& bytes, const std::string& name);

/// As Pillow too: alpha is dropped, not blended; of 16 bits the high byte counts, but 16-bit gray
/// without alpha is cut at 255. Unlike Pillow, a file must have its end chunk.
Image decode_png(const Bytes& bytes, const std::string& name);

/// Part of an image: `height` rows from `top` on, `width` columns from `left` on.
struct Box {
  std::int64_t top = 0, left = 0, height = 0, width = 0;
};

/// `part` of the image resized to height × width, with the bits of Pillow's
/// resize((width, height), BILINEAR): antialiased, first along rows, then along columns. Only the
/// part is computed.
Image resized(const Image& image, std::int64_t height, std::int64_t width, const Box& part);

/// What ImageNet's networks are evaluated on, as torchvision's Resize(256), CenterCrop(224) on a
/// Pillow image: the shorter side becomes 256, then the middle 224 × 224 are taken.
Image evaluation_view(const Image& image);
inline constexpr std::int64_t kResizedSide = 256, kViewSide = 224;

}  // namespace sentinel
