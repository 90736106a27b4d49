#include <png.h>

#include <algorithm>
#include <cstring>

#include "c_errors.hpp"
#include "image.hpp"
#include "sentinel/core/error.hpp"

namespace sentinel {
namespace {

void fail(png_structp png, png_const_charp message) {
  auto& error = *static_cast<CError*>(png_get_error_ptr(png));
  std::snprintf(error.message, sizeof error.message, "%s", message);
  error.leave();
}

void say_nothing(png_structp, png_const_charp) {}

/// What libpng reads from.
struct Source {
  const std::byte* next;
  std::size_t left;
};

void take(png_structp png, png_bytep out, std::size_t size) {
  auto& source = *static_cast<Source*>(png_get_io_ptr(png));
  if (size > source.left) png_error(png, "the file is cut off");
  std::memcpy(out, source.next, size);
  source.next += size;
  source.left -= size;
}

class PngReader {
 public:
  PngReader(const Bytes& bytes, const std::string& name)
      : name_(name), source_{bytes.data(), bytes.size()} {
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, &error_, fail, say_nothing);
    if (png_ != nullptr) info_ = png_create_info_struct(png_);
    if (info_ == nullptr) {
      png_destroy_read_struct(&png_, nullptr, nullptr);
      throw EnvironmentError("libpng cannot be used: another version, or no memory");
    }
  }
  PngReader(const PngReader&) = delete;
  PngReader& operator=(const PngReader&) = delete;
  ~PngReader() { png_destroy_read_struct(&png_, &info_, nullptr); }

  Image read() {
    call([this] {
      png_set_read_fn(png_, &source_, take);
      png_read_info(png_, info_);
    });
    Image image =
        blank_image(png_get_image_height(png_, info_), png_get_image_width(png_, info_), name_);
    if (is_deep_gray())
      read_deep_gray(image);
    else
      read_colours(image);
    return image;
  }

 private:
  template <class Body>
  void call(const Body& body) {
    if (!guarded(error_, body))
      throw DataError(name_, std::string("is a broken PNG file: ") + error_.message);
  }

  bool is_deep_gray() const {
    return png_get_bit_depth(png_, info_) == 16 &&
           png_get_color_type(png_, info_) == PNG_COLOR_TYPE_GRAY;
  }

  void read_colours(Image& image) {
    call([this] {
      png_set_expand(png_);  // palettes and 1, 2, 4 bits
      png_set_strip_16(png_);
      png_set_strip_alpha(png_);
      png_set_gray_to_rgb(png_);
    });
    read_rows(image.pixels.data(), image, 3);
  }

  void read_deep_gray(Image& image) {
    std::vector<std::uint8_t> gray(image.pixels.size() / 3 * 2);  // high byte first
    read_rows(gray.data(), image, 2);
    for (std::size_t i = 0; i < gray.size() / 2; ++i) {
      const std::uint8_t value = gray[2 * i] != 0 ? 255 : gray[2 * i + 1];
      std::fill_n(image.pixels.data() + 3 * i, 3, value);
    }
  }

  /// All rows, which after the transformations asked for have `depth` bytes per pixel.
  void read_rows(std::uint8_t* out, const Image& image, std::int64_t depth) {
    std::vector<png_bytep> rows;
    for (std::int64_t y = 0; y < image.height; ++y) rows.push_back(out + y * image.width * depth);
    const auto expected = static_cast<std::size_t>(image.width * depth);
    call([this, &rows, expected] {
      png_set_interlace_handling(png_);
      png_read_update_info(png_, info_);
      if (png_get_rowbytes(png_, info_) != expected) png_error(png_, "rows of unexpected size");
      png_read_image(png_, rows.data());
      png_read_end(png_, nullptr);
    });
  }

  const std::string& name_;
  Source source_;
  CError error_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
};

}  // namespace

Image decode_png(const Bytes& bytes, const std::string& name) {
  return PngReader(bytes, name).read();
}

}  // namespace sentinel
