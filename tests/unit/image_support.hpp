#pragma once
#include <cstddef>
#include <cstdio>
#include <cstdlib>

// After the headers above, as jpeglib.h needs size_t and FILE.
#include <jpeglib.h>
#include <png.h>

#include <cstring>
#include <vector>

#include "io/image.hpp"

namespace sentinel::test {

/// Smooth waves with some texture; other values in every channel.
inline std::vector<std::uint8_t> waves(int width, int height, int channels) {
  std::vector<std::uint8_t> pixels;
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < channels; ++c)
        pixels.push_back(
            static_cast<std::uint8_t>((3 * x + (5 + c) * y + 40 * c + x * y % 7) % 256));
  return pixels;
}

/// How a JPEG file is made.
struct JpegStyle {
  J_COLOR_SPACE given = JCS_RGB;     // of the pixels
  J_COLOR_SPACE stored = JCS_YCbCr;  // in the file
  bool progressive = false;
};

inline Bytes make_jpeg(std::vector<std::uint8_t> pixels, int width, int height,
                       const JpegStyle& style = {}) {
  jpeg_compress_struct info;
  jpeg_error_mgr errors;
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* data = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&info, &data, &size);
  info.image_width = static_cast<JDIMENSION>(width);
  info.image_height = static_cast<JDIMENSION>(height);
  info.input_components = static_cast<int>(pixels.size()) / (width * height);
  info.in_color_space = style.given;
  jpeg_set_defaults(&info);
  jpeg_set_colorspace(&info, style.stored);
  jpeg_set_quality(&info, 90, TRUE);
  if (style.progressive) jpeg_simple_progression(&info);
  jpeg_start_compress(&info, TRUE);
  while (info.next_scanline < info.image_height) {
    JSAMPROW row =
        pixels.data() + static_cast<int>(info.next_scanline) * width * info.input_components;
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  Bytes bytes(size);
  std::memcpy(bytes.data(), data, size);
  jpeg_destroy_compress(&info);
  std::free(data);
  return bytes;
}

/// How a PNG file is made.
struct PngStyle {
  int colour = PNG_COLOR_TYPE_RGB;
  int bits = 8;
  bool interlaced = false;
  std::vector<png_color> palette = {};
  std::vector<png_byte> alpha = {};  // of the palette
};

/// `rows`: each as in the file (16 bits: high byte first; below 8: several pixels a byte).
inline Bytes make_png(std::vector<std::vector<std::uint8_t>> rows, int width,
                      const PngStyle& style = {}) {
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);
  Bytes bytes;
  const auto append = [](png_structp to, png_bytep data, std::size_t size) {
    auto& out = *static_cast<Bytes*>(png_get_io_ptr(to));
    const auto* begin = reinterpret_cast<const std::byte*>(data);
    out.insert(out.end(), begin, begin + size);
  };
  png_set_write_fn(png, &bytes, append, nullptr);
  png_set_IHDR(png, info, static_cast<png_uint_32>(width), static_cast<png_uint_32>(rows.size()),
               style.bits, style.colour,
               style.interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  if (!style.palette.empty())
    png_set_PLTE(png, info, style.palette.data(), static_cast<int>(style.palette.size()));
  if (!style.alpha.empty())
    png_set_tRNS(png, info, style.alpha.data(), static_cast<int>(style.alpha.size()), nullptr);
  std::vector<png_bytep> pointers;
  for (auto& row : rows) pointers.push_back(row.data());
  png_set_rows(png, info, pointers.data());
  png_write_png(png, info, PNG_TRANSFORM_IDENTITY, nullptr);
  png_destroy_write_struct(&png, &info);
  return bytes;
}

/// Pixels of one byte per channel as rows.
inline std::vector<std::vector<std::uint8_t>> rows_of(const std::vector<std::uint8_t>& pixels,
                                                      int height) {
  std::vector<std::vector<std::uint8_t>> rows;
  const auto stride = static_cast<std::ptrdiff_t>(pixels.size()) / height;
  for (std::ptrdiff_t y = 0; y < height; ++y)
    rows.emplace_back(pixels.begin() + y * stride, pixels.begin() + (y + 1) * stride);
  return rows;
}

}  // namespace sentinel::test
