#include "corrupt/hostile_pth.hpp"

#include <ATen/ATen.h>
#include <zlib.h>

#include <algorithm>
#include <cstring>

#include "io/zip.hpp"
#include "sentinel/io/checkpoint_file.hpp"

namespace sentinel::test {
namespace {

template <std::size_t N>
std::string raw(const char (&literal)[N]) {  // text that holds zero bytes
  return std::string(literal, N - 1);
}

template <class T>
std::string number(T value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof(T));
}

std::string repeat(const std::string& text, std::size_t count) {
  std::string all;
  while (count-- > 0) all += text;
  return all;
}

std::string unicode(const std::string& text) {
  return "X" + number(static_cast<std::uint32_t>(text.size())) + text;
}

std::string integer(std::int64_t value) {
  return "\x8a\x08" + number(value);
}

std::string integers(const std::vector<std::int64_t>& values) {
  std::string text = "(";
  for (const std::int64_t value : values) text += integer(value);
  return text + "t";
}

using Numbers = std::vector<std::int64_t>;

/// A call of _rebuild_tensor_v2 on the storage "0".
std::string tensor(std::int64_t numel, std::int64_t offset, const Numbers& sizes,
                   const Numbers& strides) {
  return "ctorch._utils\n_rebuild_tensor_v2\n((" + unicode("storage") + "ctorch\nFloatStorage\n" +
         unicode("0") + unicode("cpu") + integer(numel) + "tQ" + integer(offset) + integers(sizes) +
         integers(strides) + "\x89" + "ccollections\nOrderedDict\n)RtR";
}

std::string state_dict(const std::string& value) {
  return "\x80\x02}(" + unicode("weight") + value + "u.";
}

const Bytes& sixteen_floats() {
  static const Bytes bytes(64, std::byte{0});
  return bytes;
}

HostileFile pickled(std::string name, std::string error, const std::string& pickle) {
  return {std::move(name), std::move(error), wrap_pickle(pickle, sixteen_floats())};
}

HostileFile tensor_file(std::string name, std::string error, std::int64_t numel,
                        std::int64_t offset, const Numbers& sizes, const Numbers& strides) {
  return pickled(std::move(name), std::move(error),
                 state_dict(tensor(numel, offset, sizes, strides)));
}

void code_carrying(std::vector<HostileFile>& files) {
  files.push_back(pickled("runs_a_shell", "posix.system",
                          "\x80\x02"
                          "cposix\nsystem\n" +
                              unicode("touch /tmp/owned") + "\x85R."));
  files.push_back(pickled("runs_python", "builtins.eval",
                          "\x80\x04\x8c\x08"
                          "builtins\x8c\x04"
                          "eval\x93\x8c\x03"
                          "1+1\x85R."));
  files.push_back(pickled("hides_in_an_entry", "os.system",
                          state_dict("cos\nsystem\n" + unicode("ls") + "\x85R")));
  files.push_back(
      pickled("imports_torch_internals", "torch.hub.load", state_dict("ctorch.hub\nload\n)R")));
  files.push_back(pickled("calls_a_text", "no global", state_dict(unicode("os.system") + ")R")));
}

void bad_pickles(std::vector<HostileFile>& files) {
  const auto add = [&](const char* name, const char* error, const std::string& pickle) {
    files.push_back(pickled(name, error, pickle));
  };
  add("endless_text", "longer than the rest", "\x80\x02X" + number(0xffffffffu) + "abc");
  add("endless_text_64_bits", "longer than the rest", "\x80\x04\x8d" + number(~0ull) + "abc");
  add("endless_integer", "longer than the rest", "\x80\x02\x8b" + number(0x7fffffffu) + "abc");
  add("negative_integer_length", "longer than the rest", "\x80\x02\x8b" + number(0xffffffffu));
  add("endless_global", "endless name",
      "\x80\x02"
      "c" +
          repeat("a", 5000));
  add("huge_memo_index", "never set",
      "\x80\x02Nr" + number(0xffffffffu) + "j" + number(0xfffffffeu) + ".");
  add("deep_tuples", "no dictionary", "\x80\x02)" + repeat("\x85", 1000000) + ".");
  add("deep_tuple_in_an_entry", "\"weight\" is no tensor",
      state_dict(")" + repeat("\x85", 1000000)));
  add("deep_marks", "a mark where there is none",
      "\x80\x02" + repeat("(", 1000000) + repeat("1", 1000001));
  add("too_many_values", "more values", "\x80\x02(" + repeat("N", 3000000) + "t.");
  add("too_much_stack", "deeper", "\x80\x02N" + repeat("2", 3000000) + ".");
  add("contains_itself", "\"weight\" is no tensor",
      state_dict("]q\x01h\x01"
                 "a"));
  add("dictionary_in_itself", "\"weight\" is no tensor",
      "\x80\x02}q\x01" + unicode("weight") + "h\x01s.");
  add("empty_stack", "where there is none", "\x80\x02.");
  add("pops_nothing", "where there is none",
      "\x80\x02"
      "0000.");
  add("reduce_without_arguments", "more values", "\x80\x02R");
  add("key_without_value", "key without", "\x80\x02}(Nu.");
  add("no_end", "ends here", "\x80\x02}");
  add("text_protocol", "opcode", "\x80\x02(dp0\nS'a'\n.");
  add("future_protocol", "protocol 9", "\x80\x09}.");
  add("unknown_opcode", "opcode 255", "\x80\x02\xff.");
  add("key_is_a_number", "keys are texts", "\x80\x02}(K\x01" + tensor(16, 0, {16}, {1}) + "u.");
  add("no_tensors", "no tensors", "\x80\x02}.");
  add("long_name", "name is too long",
      "\x80\x02}(" + unicode(repeat("a", 2000)) + tensor(16, 0, {16}, {1}) + "u.");
}

void bad_tensors(std::vector<HostileFile>& files) {
  const std::int64_t huge = std::int64_t{1} << 62;
  const auto add = [&](const char* name, const char* error, std::int64_t numel, std::int64_t offset,
                       const Numbers& sizes, const Numbers& strides) {
    files.push_back(tensor_file(name, error, numel, offset, sizes, strides));
  };
  add("storage_lies", "should have 1000000 elements", 1000000, 0, {16}, {1});
  add("storage_overflows", "impossible size", huge, 0, {16}, {1});
  add("negative_storage", "impossible size", -1, 0, {16}, {1});
  add("behind_the_storage", "beyond its storage", 16, 1, {16}, {1});
  add("negative_offset", "beyond its storage", 16, -1, {4}, {1});
  add("huge_offset", "beyond its storage", 16, INT64_MAX, {4}, {1});
  add("negative_stride", "beyond its storage", 16, 15, {16}, {-1});
  add("overflowing_stride", "beyond its storage", 16, 0, {4, 4}, {huge, 1});
  add("stride_sum_overflows", "beyond its storage", 16, 0, {2, 2, 2}, {huge, huge, huge});
  add("negative_size", "impossible size", 16, 0, {-4}, {1});
  add("overflowing_size", "impossible size", 16, 0, {huge, huge}, {0, 0});
  add("empty_but_overflowing", "impossible size", 16, 0, {0, huge, huge}, {1, 1, 1});
  add("expanded", "save expanded tensors", 16, 0, {1 << 30}, {0});
  add("strides_missing", "one stride per dimension", 16, 0, {4, 4}, {4});
  add("too_many_dimensions", "64 dimensions", 16, 0, Numbers(65, 1), Numbers(65, 1));
  std::string many = "\x80\x02}(";
  for (int i = 0; i < 2000; ++i)
    many +=
        unicode(std::to_string(i)) + (i == 0 ? tensor(1024, 0, {1024}, {1}) + "q\x01" : "h\x01");
  files.push_back(
      {"one_storage_thousandfold", "larger than this file", wrap_pickle(many + "u.", Bytes(4096))});
}

void patch(Bytes& bytes, std::size_t offset, const std::string& value) {
  std::memcpy(bytes.data() + offset, value.data(), value.size());
}

/// Where the directory's entry of a record begins.
std::size_t directory_entry(const Bytes& bytes, const std::string& record) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return text.rfind(record, text.rfind("PK\x05\x06")) - 46;
}

/// A record of zeros, compressed about a thousandfold.
Bytes zip_bomb(std::uint32_t claimed) {
  const Bytes zeros(50u << 20);
  Bytes packed(1u << 20);
  z_stream stream{};
  deflateInit2(&stream, 9, Z_DEFLATED, -MAX_WBITS, 9, Z_DEFAULT_STRATEGY);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(zeros.data()));
  stream.avail_in = static_cast<uInt>(zeros.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  deflate(&stream, Z_FINISH);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  const std::string pickle = state_dict(tensor(16, 0, {16}, {1}));
  Bytes zip = wrap_pickle(pickle, packed);
  const std::size_t entry = directory_entry(zip, "archive/data/0");
  patch(zip, entry + 10, number(std::uint16_t{8}));
  patch(zip, entry + 24, number(claimed));
  return zip;
}

void bad_archives(std::vector<HostileFile>& files) {
  const Bytes good = good_zip_checkpoint();
  const auto add = [&](const char* name, const char* error, std::size_t from_entry,
                       const std::string& value) {
    Bytes bytes = good;
    patch(bytes, directory_entry(bytes, "archive/data/0") + from_entry, value);
    files.push_back({name, error, std::move(bytes)});
  };
  files.push_back({"zip_bomb", "more than this file can honestly hold", zip_bomb(50u << 20)});
  files.push_back({"lying_zip_bomb", "does not give the 64 bytes", zip_bomb(64)});
  add("wrong_checksum", "checksum", 16, number(0x12345678u));
  add("size_differs", "unknown way", 24, number(100u));
  add("huge_size", "honestly hold", 24, number(0xfffffffeu));
  add("zip64_size_missing", "honestly hold", 24, number(0xffffffffu));
  add("behind_the_end", "behind the end", 42, number(0xfffffff0u));
  add("points_elsewhere", "no zip record here", 42, number(1u));
  add("points_to_another_record", "as the directory says", 42, number(0u));
  add("encrypted", "encrypted", 8, number(std::uint16_t{1}));
  add("unknown_compression", "unknown way", 10, number(std::uint16_t{99}));
  add("renamed_in_the_directory", "as the directory says", 46, "../../../../.x");
  Bytes renamed = good;
  const std::string_view text(reinterpret_cast<const char*>(renamed.data()), renamed.size());
  patch(renamed, text.find("archive/data/0"), "../../../../.x");
  patch(renamed, directory_entry(renamed, "archive/data/0") + 46, "../../../../.x");
  files.push_back({"no_such_storage", "record archive/data/0 is missing", std::move(renamed)});
  ZipWriter path;
  path.add("../../../../etc/passwd", "x", 1);
  files.push_back({"climbs_out", "no data.pkl", path.finish()});
  ZipWriter twice;
  twice.add("archive/data.pkl", "\x80\x02}.", 4);
  twice.add("archive/data.pkl", "\x80\x02}.", 4);
  files.push_back({"two_of_one_name", "have one name", twice.finish()});
  Bytes count = good;
  patch(count, count.size() - 12, number(std::uint16_t{60000}));
  files.push_back({"too_many_entries", "ends here", std::move(count)});
  Bytes offset = good;
  patch(offset, offset.size() - 6, number(0xffffff00u));
  files.push_back({"directory_outside", "behind the end", std::move(offset)});
}

Bytes text_file(const std::string& text) {
  const auto* data = reinterpret_cast<const std::byte*>(text.data());
  return Bytes(data, data + text.size());
}

std::string legacy_head() {
  return raw("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.") +
         "\x80\x02}(" + unicode("little_endian") + "\x88u.";
}

void bad_legacy(std::vector<HostileFile>& files) {
  const std::string state = state_dict(tensor(16, 0, {16}, {1}));
  const std::string keys = "\x80\x02](" + unicode("0") + "e.";
  const std::string zeros(64, '\0');
  const auto add = [&](const char* name, const char* error, const std::string& text) {
    files.push_back({name, error, text_file(text)});
  };
  add("legacy_huge_storage", "more than the file has left",
      legacy_head() + state + keys + number(std::uint64_t{1} << 62) + zeros);
  add("legacy_short_storage", "should have 16",
      legacy_head() + state + keys + number(std::uint64_t{2}) + zeros);
  add("legacy_unknown_storage", "no tensor uses",
      legacy_head() + state + "\x80\x02](" + unicode("7") + "e.");
  add("legacy_no_storage", "is missing", legacy_head() + state + "\x80\x02].");
  add("legacy_other_magic", "not one of torch.save", "\x80\x02K\x01." + state);
  add("legacy_runs_a_shell", "posix.system",
      legacy_head() +
          "\x80\x02"
          "cposix\nsystem\n");
  add("empty_file", "empty", "");
  add("web_page", "a web page", "<!DOCTYPE html><html></html>");
  add("only_a_head", "zip archive has no end", "PK\x03\x04");
}

}  // namespace

Bytes wrap_pickle(std::string_view pickle, const Bytes& storage) {
  ZipWriter zip;
  zip.add("archive/data.pkl", pickle.data(), pickle.size());
  zip.add("archive/data/0", storage.data(), storage.size());
  zip.add("archive/version", "3\n", 2);
  return zip.finish();
}

Bytes good_zip_checkpoint() {
  StateDict state;
  state.set("conv.weight", at::arange(12, at::kFloat).reshape({3, 4}));
  state.set("steps", at::scalar_tensor(5, at::kLong));
  state.set("mask", at::ones({3}, at::kBool));
  return serialize_pth(state, "{\"schema\": 1}");
}

Bytes good_legacy_checkpoint() {
  std::string values;
  for (int i = 0; i < 16; ++i) values += number(static_cast<float>(i));
  return text_file(legacy_head() + state_dict(tensor(16, 2, {2, 3}, {1, 4})) + "\x80\x02](" +
                   unicode("0") + "e." + number(std::uint64_t{16}) + values);
}

std::vector<HostileFile> hostile_checkpoints() {
  std::vector<HostileFile> files;
  code_carrying(files);
  bad_pickles(files);
  bad_tensors(files);
  bad_archives(files);
  bad_legacy(files);
  return files;
}

}  // namespace sentinel::test
