// Images, and CIFAR's releases.
#include <zlib.h>

#include <algorithm>
#include <set>

#include "corrupt/target.hpp"
#include "io/cifar.hpp"
#include "io/image.hpp"
#include "sentinel/core/file.hpp"
#include "unit/image_support.hpp"
#include "unit/store_fixture.hpp"

namespace sentinel::test {
namespace {

constexpr std::uint32_t kLargest = 1 << 16;  // pixels; more would only be slower

std::uint32_t big_endian(const Bytes& file, std::size_t at, std::size_t size) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < size; ++i)
    value = value << 8 | std::to_integer<std::uint32_t>(file[at + i]);
  return value;
}

void put_big_endian(Bytes& file, std::size_t at, std::uint32_t value) {
  for (std::size_t i = 4; i-- > 0; value >>= 8) file[at + i] = static_cast<std::byte>(value);
}

bool is_png(const Bytes& file) {
  return file.size() > 33 && to_text(file).substr(0, 4) == "\x89PNG";
}

/// Right checksums of a PNG's chunks. A chunk that would end behind the file ends with it.
void repair_png(Bytes& file) {
  if (!is_png(file)) return;
  for (std::size_t at = 8; file.size() - at >= 12;) {
    const auto length = static_cast<std::uint32_t>(
        std::min<std::size_t>(big_endian(file, at, 4), file.size() - at - 12));
    const auto* begin = reinterpret_cast<const Bytef*>(file.data() + at + 4);
    put_big_endian(file, at, length);
    put_big_endian(file, at + 8 + length,
                   static_cast<std::uint32_t>(crc32_z(crc32_z(0, nullptr, 0), begin, length + 4)));
    at += length + 12;
  }
}

/// Pixels that the file claims, as far as is easily seen.
std::uint64_t claimed_pixels(const Bytes& file) {
  if (is_png(file)) return std::uint64_t{big_endian(file, 16, 4)} * big_endian(file, 20, 4);
  std::uint64_t most = 0;
  for (std::size_t at = 0; at + 9 <= file.size(); ++at)
    if (file[at] == std::byte{0xff} && (file[at + 1] & std::byte{0xf0}) == std::byte{0xc0})
      most = std::max<std::uint64_t>(
          most, std::uint64_t{big_endian(file, at + 5, 2)} * big_endian(file, at + 7, 2));
  return most;
}

/// The work of resizing depends on the size alone, and takes longest.
void read_image(const Bytes& bytes) {
  static std::set<std::pair<std::int64_t, std::int64_t>> seen;
  const Image image = decode_image(bytes, "fuzz");
  if (seen.emplace(image.height, image.width).second) evaluation_view(image);
}

/// CIFAR-10's test split in a folder of its own.
class Cifar {
 public:
  void read(const Bytes& bytes) {
    const bool python = !bytes.empty() && bytes[0] == std::byte{0x80};
    const std::string path = folder_ / (python ? "test_batch" : "test_batch.bin");
    std::FILE* file = std::fopen(path.c_str(), "wb");
    std::fwrite(bytes.data(), 1, bytes.size(), file);
    std::fclose(file);
    accepted([&] { read_cifar(dataset_info("cifar10"), folder_.path(), Split::kTest); });
    std::remove(path.c_str());
  }

 private:
  TempDir folder_;
};

/// The Python release, of one image.
Bytes cifar_pickle() {
  using namespace std::string_literals;
  std::string text =
      "\x80\x02}(U\x04"
      "datacnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK"s;
  text +=
      "\x00\x85U\x01"
      "btR(K\x01K\x01M\x00\x0c\x86"
      "cnumpy\ndtype\n(U\x02u1K\x00K\x01tR\x89T\x00\x0c\x00\x00"s;
  text += std::string(3072, 'x') +
          "tbU\x06labels](K\x01"
          "eu.";
  return to_bytes(text);
}

std::vector<Bytes> seeds() {
  const std::vector<std::uint8_t> rows = waves(12, 9, 3);
  std::vector<Bytes> all{make_jpeg(rows, 12, 9), make_jpeg(rows, 12, 9, {JCS_RGB, JCS_YCbCr, true}),
                         make_jpeg(waves(12, 9, 1), 12, 9, {JCS_GRAYSCALE, JCS_GRAYSCALE}),
                         make_jpeg(waves(12, 9, 4), 12, 9, {JCS_CMYK, JCS_YCCK})};
  const auto add_png = [&](const PngStyle& style, std::size_t row_bytes) {
    const std::vector<std::uint8_t> row(row_bytes, 1);
    all.push_back(make_png(std::vector<std::vector<std::uint8_t>>(9, row), 12, style));
  };
  add_png({}, 36);
  add_png({PNG_COLOR_TYPE_RGB, 8, true}, 36);
  add_png({PNG_COLOR_TYPE_GRAY, 16}, 24);
  add_png({PNG_COLOR_TYPE_RGB_ALPHA, 16}, 96);
  add_png({PNG_COLOR_TYPE_GRAY, 1}, 2);
  add_png({PNG_COLOR_TYPE_PALETTE, 4, false, {{1, 2, 3}, {4, 5, 6}}, {9, 8}}, 6);
  all.push_back(Bytes(3073, std::byte{7}));  // CIFAR-10's binary release, one image
  all.push_back(cifar_pickle());
  return all;
}

}  // namespace

Target image_target() {
  const auto cifar = std::make_shared<Cifar>();
  return {
      "image",
      seeds(),
      {"IHDR", "IDAT", "IEND", "PLTE", "tRNS", "gAMA", "iCCP", "\xff\xd8", "\xff\xd9", "\xff\xda",
       "\xff\xc0", "\xff\xc2", "\xff\xc4", "\xff\xdb", "\xff\xdd", "\xff\xee", "\xff\xe1", "Adobe"},
      repair_png,
      [cifar](const Bytes& bytes) {
        if (!bytes.empty() && bytes[0] < std::byte{0x81}) cifar->read(bytes);
        return claimed_pixels(bytes) <= kLargest && accepted([&] { read_image(bytes); });
      }};
}

}  // namespace sentinel::test
