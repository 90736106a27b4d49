#include <cstddef>
#include <cstdio>

// After the headers above, as jpeglib.h needs size_t and FILE.
#include <jerror.h>
#include <jpeglib.h>

#include "c_errors.hpp"
#include "image.hpp"
#include "sentinel/core/error.hpp"

namespace sentinel {
namespace {

void fail(j_common_ptr info) {
  auto& error = *static_cast<CError*>(info->client_data);
  char message[JMSG_LENGTH_MAX];
  (*info->err->format_message)(info, message);
  std::snprintf(error.message, sizeof error.message, "%s", message);
  error.leave();
}

/// libjpeg fills up what is missing at the end with gray and only warns.
void warn(j_common_ptr info, int level) {
  if (level < 0 && info->err->msg_code == JWRN_JPEG_EOF) fail(info);
}

void say_nothing(j_common_ptr) {}

/// a b / 255, rounded as Pillow does.
int product(int a, int b) {
  const int scaled = a * b + 128;
  return (scaled + (scaled >> 8)) >> 8;
}

/// A row of inverted CMYK.
void to_rgb(const std::uint8_t* cmyk, std::uint8_t* rgb, std::int64_t width) {
  for (const std::uint8_t* end = cmyk + 4 * width; cmyk != end; cmyk += 4)
    for (int c = 0; c < 3; ++c)
      *rgb++ = static_cast<std::uint8_t>(cmyk[3] - product(255 - cmyk[c], cmyk[3]));
}

class JpegReader {
 public:
  explicit JpegReader(const std::string& name) : name_(name) {
    info_.err = jpeg_std_error(&handlers_);
    handlers_.error_exit = fail;
    handlers_.emit_message = warn;
    handlers_.output_message = say_nothing;
    info_.client_data = &error_;
    call([this] { jpeg_create_decompress(&info_); });
  }
  JpegReader(const JpegReader&) = delete;
  JpegReader& operator=(const JpegReader&) = delete;
  ~JpegReader() { jpeg_destroy_decompress(&info_); }

  Image read(const Bytes& bytes) {
    read_header(bytes);
    Image image = blank_image(info_.image_height, info_.image_width, name_);
    read_rows(image);
    return image;
  }

 private:
  template <class Body>
  void call(const Body& body) {
    if (!guarded(error_, body))
      throw DataError(name_, std::string("is a broken JPEG file: ") + error_.message);
  }

  void read_header(const Bytes& bytes) {
    const auto* data = reinterpret_cast<const unsigned char*>(bytes.data());
    const std::size_t size = bytes.size();
    call([this, data, size] {
      jpeg_mem_src(&info_, data, size);
      jpeg_read_header(&info_, TRUE);
      info_.out_color_space = info_.num_components == 4 ? JCS_CMYK : JCS_RGB;
    });
  }

  void read_rows(Image& image) {
    const bool inks = info_.out_color_space == JCS_CMYK;
    std::vector<std::uint8_t> ink_row(inks ? static_cast<std::size_t>(image.width) * 4 : 0);
    call([this, inks, &ink_row, &image] {
      jpeg_start_decompress(&info_);
      while (info_.output_scanline < info_.output_height) {
        std::uint8_t* rgb = image.pixels.data() + info_.output_scanline * image.width * 3;
        JSAMPROW row = inks ? ink_row.data() : rgb;
        jpeg_read_scanlines(&info_, &row, 1);
        if (inks) to_rgb(row, rgb, image.width);
      }
      jpeg_finish_decompress(&info_);  // looks for the end of the file
    });
  }

  const std::string& name_;
  CError error_;
  jpeg_error_mgr handlers_{};
  jpeg_decompress_struct info_{};
};

}  // namespace

Image decode_jpeg(const Bytes& bytes, const std::string& name) {
  return JpegReader(name).read(bytes);
}

}  // namespace sentinel
