// Single images: what Pillow's pixels are is in parity/image_test.cpp; here are laws, numbers that
// can be checked by hand, and files that are broken.
#include <random>

#include "io_support.hpp"
#include "unit/image_support.hpp"

namespace sentinel {
namespace {

using test::data_error;
using test::JpegStyle;
using test::make_jpeg;
using test::make_png;
using test::PngStyle;
using test::rows_of;
using test::waves;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr int kWidth = 45, kHeight = 37;

/// [kHeight, kWidth, 3]
std::vector<std::uint8_t> picture() {
  return waves(kWidth, kHeight, 3);
}

Image gray_row(std::vector<std::uint8_t> values) {
  Image image{1, static_cast<std::int64_t>(values.size()), {}};
  for (const std::uint8_t value : values) image.pixels.insert(image.pixels.end(), 3, value);
  return image;
}

/// The first channel.
std::vector<int> values_of(const Image& image) {
  std::vector<int> values;
  for (std::size_t i = 0; i < image.pixels.size(); i += 3) values.push_back(image.pixels[i]);
  return values;
}

Image whole(const Image& image, std::int64_t height, std::int64_t width) {
  return resized(image, height, width, {0, 0, height, width});
}

Image cut(const Image& image, const Box& box) {
  Image part{box.height, box.width, {}};
  for (std::int64_t y = box.top; y < box.top + box.height; ++y) {
    const auto row = image.pixels.begin() + (y * image.width + box.left) * 3;
    part.pixels.insert(part.pixels.end(), row, row + box.width * 3);
  }
  return part;
}

// ---- JPEG
// ------------------------------------------------------------------------------------------

TEST(Jpeg, ColoursComeOutInEveryEncoding) {
  std::vector<std::uint8_t> pixels;
  for (int i = 0; i < kWidth * kHeight; ++i) pixels.insert(pixels.end(), {200, 30, 90});
  for (const bool progressive : {false, true}) {
    for (const J_COLOR_SPACE stored : {JCS_YCbCr, JCS_RGB}) {
      const Image image =
          decode_image(make_jpeg(pixels, kWidth, kHeight, {JCS_RGB, stored, progressive}), "x");
      EXPECT_EQ(image.height, kHeight);
      EXPECT_EQ(image.width, kWidth);
      ASSERT_EQ(image.pixels.size(), pixels.size());
      for (std::size_t i = 0; i < pixels.size(); ++i)  // Y, Cb, Cr are rounded and quantised
        ASSERT_NEAR(image.pixels[i], pixels[i], 4) << stored << " at " << i;
    }
  }
}

TEST(Jpeg, GrayIsAllThreeColours) {
  const Image image =
      decode_image(make_jpeg(waves(16, 8, 1), 16, 8, {JCS_GRAYSCALE, JCS_GRAYSCALE, false}), "x");
  ASSERT_EQ(image.pixels.size(), 3 * 16 * 8);
  for (std::size_t i = 0; i < image.pixels.size(); i += 3) {
    EXPECT_EQ(image.pixels[i], image.pixels[i + 1]);
    EXPECT_EQ(image.pixels[i], image.pixels[i + 2]);
  }
}

TEST(Jpeg, InksAreStoredInverted) {
  // Adobe's way: 255 is no ink. Full black ink is black whatever the rest; no ink is white; cyan
  // alone takes the red away.
  const auto colour = [](std::vector<std::uint8_t> inks, J_COLOR_SPACE stored) {
    std::vector<std::uint8_t> pixels;
    for (int i = 0; i < 64; ++i) pixels.insert(pixels.end(), inks.begin(), inks.end());
    const Image image = decode_image(make_jpeg(pixels, 8, 8, {JCS_CMYK, stored, false}), "x");
    return std::vector<int>{image.pixels[0], image.pixels[1], image.pixels[2]};
  };
  EXPECT_THAT(colour({255, 255, 255, 255}, JCS_CMYK), ElementsAre(255, 255, 255));
  EXPECT_THAT(colour({200, 100, 50, 0}, JCS_CMYK), ElementsAre(0, 0, 0));
  const std::vector<int> cyan = colour({0, 255, 255, 255}, JCS_CMYK);
  EXPECT_LE(cyan[0], 2);
  EXPECT_GE(std::min(cyan[1], cyan[2]), 253);
  const std::vector<int> other = colour({0, 255, 255, 255}, JCS_YCCK);
  for (std::size_t c = 0; c < 3; ++c) EXPECT_NEAR(other[c], cyan[c], 3) << c;
}

TEST(Jpeg, EveryCutIsAnError) {
  for (const bool progressive : {false, true}) {
    const Bytes good = make_jpeg(picture(), kWidth, kHeight, {JCS_RGB, JCS_YCbCr, progressive});
    EXPECT_EQ(decode_image(good, "whole").width, kWidth);
    for (std::size_t size = 0; size < good.size(); ++size) {
      const Bytes part(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size));
      EXPECT_THAT(data_error([&] { decode_image(part, "some/cut.JPEG"); }),
                  HasSubstr("some/cut.JPEG: "))
          << size;
    }
  }
}

/// Flips bits all over a file: pixels or a DataError, nothing else.
void flip_bits(const Bytes& good, unsigned seed) {
  std::mt19937 random(seed);
  int refused = 0;
  for (int i = 0; i < 800; ++i) {
    Bytes bad = good;
    const std::size_t reach = i % 2 == 0 ? bad.size() : std::min<std::size_t>(bad.size(), 400);
    for (int flips = 1 + static_cast<int>(random() % 4); flips > 0; --flips)
      bad[random() % reach] ^= static_cast<std::byte>(1u << random() % 8);
    try {
      EXPECT_EQ(evaluation_view(decode_image(bad, "flipped")).pixels.size(), 224 * 224 * 3);
    } catch (const DataError& error) {
      EXPECT_THAT(error.what(), HasSubstr("flipped: "));
      ++refused;
    }
  }
  EXPECT_GT(refused, 0);
}

TEST(Jpeg, FlippedBitsDoNoHarm) {
  flip_bits(make_jpeg(picture(), kWidth, kHeight), 1);
  flip_bits(make_jpeg(picture(), kWidth, kHeight, {JCS_RGB, JCS_YCbCr, true}), 2);
  flip_bits(make_jpeg(waves(21, 40, 4), 21, 40, {JCS_CMYK, JCS_YCCK, false}), 3);
}

TEST(Jpeg, HugeSizesAreRefusedBeforeTheyTakeMemory) {
  Bytes bytes = make_jpeg(picture(), kWidth, kHeight);
  std::size_t frame = 0;  // SOF0: marker, length, precision, height, width
  while (bytes[frame] != std::byte{0xff} || bytes[frame + 1] != std::byte{0xc0}) ++frame;
  for (std::size_t i = 5; i < 9; ++i) bytes[frame + i] = std::byte{0xfd};
  EXPECT_THAT(data_error([&] { decode_image(bytes, "bomb.jpg"); }),
              HasSubstr("bomb.jpg: has 65021 x 65021 pixels, more than the 134217728 allowed"));
}

// ---- PNG
// -------------------------------------------------------------------------------------------

TEST(Png, PixelsAreExact) {
  for (const bool interlaced : {false, true}) {
    const Bytes bytes =
        make_png(rows_of(picture(), kHeight), kWidth, {PNG_COLOR_TYPE_RGB, 8, interlaced});
    EXPECT_EQ(decode_image(bytes, "x").pixels, picture());
  }
}

TEST(Png, AlphaIsDroppedAndGrayIsTripled) {
  const Bytes rgba = make_png({{1, 2, 3, 0, 4, 5, 6, 77}}, 2, {PNG_COLOR_TYPE_RGB_ALPHA});
  EXPECT_THAT(decode_image(rgba, "x").pixels, ElementsAre(1, 2, 3, 4, 5, 6));
  const Bytes gray_alpha = make_png({{9, 0, 8, 255}}, 2, {PNG_COLOR_TYPE_GRAY_ALPHA});
  EXPECT_THAT(decode_image(gray_alpha, "x").pixels, ElementsAre(9, 9, 9, 8, 8, 8));
  const Bytes two_bits = make_png({{0x1b}}, 4, {PNG_COLOR_TYPE_GRAY, 2});  // 0, 1, 2, 3
  EXPECT_THAT(values_of(decode_image(two_bits, "x")), ElementsAre(0, 85, 170, 255));
}

TEST(Png, PalettesAreLookedUp) {
  const PngStyle style{PNG_COLOR_TYPE_PALETTE, 4, false, {{7, 8, 9}, {1, 2, 3}}, {0, 99}};
  EXPECT_THAT(decode_image(make_png({{0x10}}, 2, style), "x").pixels,
              ElementsAre(1, 2, 3, 7, 8, 9));
}

TEST(Png, SixteenBitsAreReadAsPillowDoes) {
  const Bytes colour =
      make_png({{0x12, 0xff, 0x34, 0x00, 0xff, 0xff}}, 1, {PNG_COLOR_TYPE_RGB, 16});
  EXPECT_THAT(decode_image(colour, "x").pixels, ElementsAre(0x12, 0x34, 0xff));
  const Bytes gray = make_png({{0x00, 0x34, 0x01, 0x00}}, 2, {PNG_COLOR_TYPE_GRAY, 16});
  EXPECT_THAT(values_of(decode_image(gray, "x")), ElementsAre(0x34, 255));
}

TEST(Png, EveryCutAndEveryFlipIsAnError) {
  const Bytes good = make_png(rows_of(waves(9, 7, 3), 7), 9);
  for (std::size_t size = 0; size < good.size(); ++size) {
    const Bytes part(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_THAT(data_error([&] { decode_image(part, "cut.png"); }), HasSubstr("cut.png: ")) << size;
  }
  flip_bits(good, 4);
  flip_bits(make_png(rows_of(waves(9, 7, 4), 7), 9, {PNG_COLOR_TYPE_RGB_ALPHA, 8, true}), 5);
}

TEST(Png, HugeSizesAreRefusedBeforeTheyTakeMemory) {
  constexpr int kWide = 1000000;  // the most that libpng takes
  std::vector<std::vector<std::uint8_t>> rows(1, std::vector<std::uint8_t>(kWide / 8));
  const PngStyle style{PNG_COLOR_TYPE_GRAY, 1};
  EXPECT_EQ(decode_image(make_png(rows, kWide, style), "wide.png").width, kWide);
  rows.resize(135, rows[0]);
  const Bytes bomb = make_png(rows, kWide, style);
  EXPECT_LT(bomb.size(), 100000);
  EXPECT_THAT(data_error([&] { decode_image(bomb, "bomb.png"); }),
              HasSubstr("bomb.png: has 1000000 x 135 pixels"));
}

TEST(Image, OtherFilesAreNamed) {
  const auto error = [](std::string_view text) {
    const auto* begin = reinterpret_cast<const std::byte*>(text.data());
    return data_error([&] { decode_image(Bytes(begin, begin + text.size()), "val/x.JPEG"); });
  };
  EXPECT_THAT(error(""), HasSubstr("val/x.JPEG: is empty"));
  EXPECT_THAT(error("GIF89a"), HasSubstr("val/x.JPEG: is neither a JPEG nor a PNG file"));
  EXPECT_THAT(error("<html>"), HasSubstr("is neither"));
  EXPECT_THAT(error("\xff\xd8\xff"), HasSubstr("val/x.JPEG: is a broken JPEG file: "));
}

// ---- resizing
// --------------------------------------------------------------------------------------

TEST(Resize, NumbersByHand) {
  // To half the size each output sees four inputs with weights 1 3 3 1 (of 8), at an edge three of
  // them with 3 3 1 (of 7).
  const Image half = whole(gray_row({0, 80, 160, 240, 0, 80}), 1, 3);
  EXPECT_THAT(values_of(half),
              ElementsAre((0 * 3 + 80 * 3 + 160 + 3) / 7, (80 + 3 * 160 + 3 * 240 + 0 + 4) / 8,
                          (240 + 3 * 0 + 3 * 80 + 3) / 7));
  // To twice the size: three quarters of the nearest and a quarter of the next.
  EXPECT_THAT(values_of(whole(gray_row({0, 100}), 1, 4)), ElementsAre(0, 25, 75, 100));
}

TEST(Resize, TheSameSizeChangesNothing) {
  const Image image{kHeight, kWidth, picture()};
  EXPECT_EQ(whole(image, kHeight, kWidth).pixels, image.pixels);
}

TEST(Resize, OneColourStays) {
  const Image image{13, 29, std::vector<std::uint8_t>(13 * 29 * 3, 201)};
  for (const auto& [height, width] : {std::pair{256, 571}, {5, 7}, {13, 1}})
    for (const int value : values_of(whole(image, height, width))) EXPECT_EQ(value, 201);
}

TEST(Resize, APartIsThatOfTheWhole) {
  const Image image{kHeight, kWidth, picture()};
  for (const Box box : {Box{0, 0, 5, 9}, {13, 21, 20, 30}, {43, 62, 7, 1}}) {
    const Image all = whole(image, 50, 63);
    EXPECT_EQ(resized(image, 50, 63, box).pixels, cut(all, box).pixels);
    const Image small = whole(image, 50, 20);
    const Box left{box.top, 3, box.height, 5};
    EXPECT_EQ(resized(image, 50, 20, left).pixels, cut(small, left).pixels);
  }
}

TEST(Resize, TheViewIsTheMiddleOfTheResizedImage) {
  struct Case {
    std::int64_t height, width;
    Box box;
    std::int64_t all_height, all_width;
  };
  // Halves go to the even number: 33 / 2 -> 16, 35 / 2 -> 18.
  for (const Case& c : {Case{256, 257, {16, 16, 224, 224}, 256, 257},
                        {256, 259, {16, 18, 224, 224}, 256, 259},
                        {300, 200, {80, 16, 224, 224}, 384, 256},
                        {37, 45, {16, 44, 224, 224}, 256, 311}}) {
    const auto height = static_cast<int>(c.height), width = static_cast<int>(c.width);
    const Image image{c.height, c.width, waves(width, height, 3)};
    EXPECT_EQ(evaluation_view(image).pixels,
              cut(whole(image, c.all_height, c.all_width), c.box).pixels)
        << c.height << " x " << c.width;
  }
}

TEST(Resize, AThinStripTakesLittleMemory) {
  const Image strip{1, 60000, std::vector<std::uint8_t>(180000, 50)};  // 256 x 15 360 000 if whole
  EXPECT_EQ(values_of(evaluation_view(strip)), std::vector<int>(224 * 224, 50));
}

}  // namespace
}  // namespace sentinel
