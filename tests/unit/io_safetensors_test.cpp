#include <ATen/ATen.h>

#include "io_support.hpp"
#include "sentinel/io/checkpoint_file.hpp"
#include "unit/io_damage.hpp"

namespace sentinel {
namespace {

using test::data_error;
using testing::ElementsAre;
using testing::HasSubstr;

Bytes as_bytes(const std::string& text) {
  const auto* data = reinterpret_cast<const std::byte*>(text.data());
  return Bytes(data, data + text.size());
}

/// A file with this header and so many bytes of data, which count up from 0.
Bytes file_of(const std::string& header, std::size_t data) {
  std::string text;
  for (int i = 0; i < 8; ++i) text += static_cast<char>((header.size() >> (8 * i)) & 0xff);
  text += header;
  for (std::size_t i = 0; i < data; ++i) text += static_cast<char>(i & 0x7f);
  return as_bytes(text);
}

/// The description of one tensor.
std::string entry(const std::string& name, const std::string& type, const std::string& shape,
                  std::size_t begin, std::size_t end) {
  return "\"" + name + "\":{\"dtype\":\"" + type + "\",\"shape\":[" + shape +
         "],\"data_offsets\":[" + std::to_string(begin) + "," + std::to_string(end) + "]}";
}

Bytes good_file() {
  return file_of("{\"__metadata__\":{\"format\":\"pt\"}," + entry("z", "F32", "2,3", 0, 24) + "," +
                     entry("a", "I64", "", 24, 32) + "," + entry("none", "F16", "0,7", 32, 32) +
                     "," + entry("flags", "BOOL", "3", 32, 35) + "}  ",
                 35);
}

TEST(Safetensors, IsReadInTheOrderOfItsData) {
  const WeightsFile file = parse_weights(good_file(), "good.safetensors");
  ASSERT_EQ(file.dicts.size(), 1u);
  EXPECT_EQ(file.dicts[0].key, "");
  EXPECT_THAT(file.remarks, HasSubstr("\"format\": \"pt\""));
  EXPECT_FALSE(file.metadata);
  std::vector<std::string> names;
  for (const auto& item : file.dicts[0].tensors) names.push_back(item.first);
  EXPECT_THAT(names, ElementsAre("z", "a", "none", "flags"));
  const StateDict& tensors = file.dicts[0].tensors;
  EXPECT_THAT(tensors.find("z")->sizes().vec(), ElementsAre(2, 3));
  EXPECT_EQ(tensors.find("z")->scalar_type(), at::kFloat);
  EXPECT_EQ(tensors.find("a")->item<std::int64_t>(), 0x1f1e1d1c1b1a1918);
  EXPECT_EQ(tensors.find("none")->numel(), 0);
  EXPECT_EQ(tensors.find("flags")->sum().item<std::int64_t>(), 3);
}

TEST(Safetensors, EveryTypeIsRead) {
  const std::vector<std::pair<std::string, at::ScalarType>> types{
      {"F64", at::kDouble}, {"F32", at::kFloat}, {"F16", at::kHalf},  {"BF16", at::kBFloat16},
      {"I64", at::kLong},   {"I32", at::kInt},   {"I16", at::kShort}, {"I8", at::kChar},
      {"U8", at::kByte},    {"BOOL", at::kBool}};
  for (const auto& [name, type] : types) {
    const std::size_t size = 3 * at::elementSize(type);
    const Bytes bytes = file_of("{" + entry("x", name, "3", 0, size) + "}", size);
    EXPECT_EQ(parse_pth(bytes, name).tensors.find("x")->scalar_type(), type) << name;
  }
}

TEST(Safetensors, ManyTensorsAreReadInLinearTime) {
  constexpr int kTensors = 50000;  // minutes, if each were compared with all others
  std::string header = "{";
  for (int i = 0; i < kTensors; ++i)
    header += entry("t" + std::to_string(i), "F32", "0", 0, 0) + (i + 1 < kTensors ? "," : "}");
  EXPECT_EQ(parse_pth(file_of(header, 0), "many").tensors.size(), std::size_t{kTensors});
}

TEST(Safetensors, EachBrokenFileIsRefusedForItsReason) {
  const std::string x = entry("x", "F32", "2", 0, 8);
  const std::string deep(5000, '[');
  const std::vector<std::pair<Bytes, std::string>> files{
      {file_of("{" + x + "}", 4), "reaches from byte 0 to 8 of 4 bytes"},
      {file_of("{" + x + "}", 12), "the last 4 bytes belong to no tensor"},
      {file_of("{" + entry("x", "F32", "3", 0, 8) + "}", 8),
       "takes 8 bytes, by its shape and type 12"},
      {file_of("{" + entry("x", "F32", "2", 8, 0) + "}", 8), "reaches from byte 8 to 0"},
      {file_of("{" + x + "," + entry("y", "F32", "1", 4, 8) + "}", 8), "\"y\" overlaps"},
      {file_of("{" + x + "," + entry("y", "F32", "1", 12, 16) + "}", 16),
       "behind bytes that belong"},
      {file_of("{" + x + "," + x + "}", 8), "\"x\" is described twice"},
      {file_of("{\"x\":{\"dtype\":\"F32\",\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,8]}}",
               8),
       "\"dtype\" is described twice"},
      {file_of("{" + entry("x", "F32", "-2", 0, 8) + "}", 8), "no whole number"},
      {file_of("{" + entry("x", "F32", "2.5", 0, 8) + "}", 8), "no whole number"},
      {file_of("{" + entry("x", "F32", "18446744073709551615", 0, 8) + "}", 8), "no whole number"},
      {file_of("{" + entry("x", "F32", "4611686018427387904,2", 0, 0) + "}", 0), "impossible size"},
      {file_of("{" + entry("x", "F32", "0,4611686018427387904,8", 0, 0) + "}", 0),
       "impossible size"},
      {file_of("{" + entry("x", "F8_E4M3", "2", 0, 2) + "}", 2),
       "the type F8_E4M3, which is not read"},
      {file_of("{\"x\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8), "has no 'dtype'"},
      {file_of("{\"x\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]}}", 8), "has no list 'shape'"},
      {file_of("{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8]}}", 8), "two offsets"},
      {file_of("{\"x\":7}", 8), "has no 'dtype'"},
      {file_of("{\"x\":" + deep + "}", 8), "nested too deep"},
      {file_of("{\"x\":{\"a\":{\"b\":{\"c\":1}}}}", 8), "nested too deep"},
      {file_of("{\"x\":", 8), "no JSON"},
      {file_of("{}", 0), "holds no tensors"},
      {file_of("{\"__metadata__\":{}}", 0), "holds no tensors"},
  };
  for (const auto& [bytes, reason] : files) {
    const std::string error = data_error([&] { parse_weights(bytes, "bad.safetensors"); });
    EXPECT_THAT(error, HasSubstr(reason));
    EXPECT_THAT(error, HasSubstr("bad.safetensors"));
  }
  std::string ones;
  for (int i = 0; i < 65; ++i) ones += i == 0 ? "1" : ",1";
  EXPECT_THAT(data_error([&] {
                parse_weights(file_of("{" + entry("x", "F32", ones, 0, 4) + "}", 4), "many");
              }),
              HasSubstr("64 dimensions"));
}

TEST(Safetensors, ALyingLengthOfTheHeaderIsRefused) {
  for (const std::uint64_t length :
       {std::uint64_t{1000}, std::uint64_t{1} << 40, ~std::uint64_t{0}}) {
    Bytes bytes = good_file();
    std::memcpy(bytes.data(), &length, 8);
    EXPECT_THAT(data_error([&] { parse_weights(bytes, "x"); }), HasSubstr("the header claims"));
  }
}

TEST(Safetensors, EveryTruncationIsRefused) {
  const Bytes good = good_file();
  for (std::size_t size = 0; size < good.size(); ++size) {
    const Bytes cut(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_THROW(parse_weights(cut, "cut"), DataError) << size;
  }
}

TEST(Safetensors, RandomDamageIsReadOrRefused) {
  test::expect_read_or_refused(good_file(), 20261129, 4,
                               [](const Bytes& bad) { parse_weights(bad, "bad"); });
}

// ---- files that are no checkpoint ----

TEST(OtherFiles, AreCalledWhatTheyAre) {
  std::string tar(257, 'x');
  tar += "ustar";
  const std::vector<std::pair<std::string, std::string>> files{
      {"", "the file is empty"},
      {"version https://git-lfs.github.com/spec/v1\noid sha256:aa\n", "git lfs pull"},
      {"<!DOCTYPE html>\n<html>", "a web page"},
      {"\n  <HTML><head>", "a web page"},
      {"<?xml version=\"1.0\"?><Error>", "a server's message"},
      {"{\"message\": \"Not Found\"}", "a JSON text"},
      {"\x1f\x8b\x08\x01rest", "gunzip"},
      {"BZh91AY", "bunzip2"},
      {std::string("\xfd\x37zXZ\0\0", 7), "unxz"},
      {"\x28\xb5\x2f\xfd rest", "unzstd"},
      {tar, "tar xf"},
      {"\x89HDF\r\n\x1a\n rest", "a Keras network"},
      {std::string("\x93NUMPY\x01\0", 8), "a NumPy array"},
      {"\x08\x07\x12\x07pytorch", "an ONNX network"},
      {"\x08\x01\x12\xaa\x01", "SavedModel of TensorFlow"},
      {std::string("\x1c\0\0\0TFL3", 8), "TensorFlow Lite"},
      {"some words\n", "a text, not a checkpoint"},
      {std::string("\x01\x02\x03\xff\xfe", 5), "the bytes 01 02 03 ff fe"},
  };
  for (const auto& [text, what] : files)
    EXPECT_THAT(data_error([&] { parse_weights(as_bytes(text), "x.pth"); }), HasSubstr(what));
}

TEST(OtherFiles, ZipArchivesAreToldApart) {
  const std::vector<std::pair<std::string, std::string>> archives{
      {"arr_0.npy", "a NumPy archive (npz)"},
      {"model.weights.h5", "a Keras network"},
      {"saved/saved_model.pb", "SavedModel of TensorFlow"},
      {"folder/net.pth", "it holds a .pth file, unpack it"},
      {"readme.txt", "it has no data.pkl"},
  };
  for (const auto& [record, what] : archives) {
    ZipWriter zip;
    zip.add(record, "x", 1);
    const Bytes bytes = zip.finish();
    EXPECT_THAT(data_error([&] { parse_weights(bytes, "x.pth"); }), HasSubstr(what));
  }
}

}  // namespace
}  // namespace sentinel
