#include "safetensors.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "sentinel/core/error.hpp"

namespace sentinel {
namespace {

using nlohmann::json;

constexpr std::size_t kLengthSize = 8;
constexpr std::uint64_t kMaxHeader = 100'000'000;  // bytes, as the format says
constexpr std::size_t kMaxParts = 1u << 20;        // names and values in it; a tensor has about 12
constexpr std::size_t kMaxDepth = 3;               // file { tensor { shape [

const char* const kAdvice = "; the file is damaged, download or save it again";

struct Type {
  std::string_view name;
  at::ScalarType dtype;
};
constexpr std::array<Type, 10> kTypes{{{"F64", at::kDouble},
                                       {"F32", at::kFloat},
                                       {"F16", at::kHalf},
                                       {"BF16", at::kBFloat16},
                                       {"I64", at::kLong},
                                       {"I32", at::kInt},
                                       {"I16", at::kShort},
                                       {"I8", at::kChar},
                                       {"U8", at::kByte},
                                       {"BOOL", at::kBool}}};

/// A tensor as the header describes it.
struct Entry {
  std::string name;
  at::ScalarType dtype = at::kFloat;
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0, end = 0;  // bytes, from the end of the header
};

/// Reads the header without keeping it. Finds deep nesting and names that are there twice, which a
/// JSON reader would drop. In time linear in the header's size: json::parse with a callback is not.
class HeaderCheck : public nlohmann::json_sax<json> {
 public:
  std::string fault;  // empty: none

  bool null() override { return part(); }
  bool boolean(bool) override { return part(); }
  bool number_integer(number_integer_t) override { return part(); }
  bool number_unsigned(number_unsigned_t) override { return part(); }
  bool number_float(number_float_t, const string_t&) override { return part(); }
  bool string(string_t&) override { return part(); }
  bool binary(binary_t&) override { return part(); }
  bool start_object(std::size_t) override { return open(); }
  bool start_array(std::size_t) override { return open(); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(string_t& name) override {
    if (names_.back().insert(name).second) return part();
    return found("the tensor \"" + name.substr(0, 120) + "\" is described twice" + kAdvice);
  }
  bool parse_error(std::size_t, const std::string&, const json::exception& error) override {
    return found(std::string("the header is no JSON: ") + error.what() + kAdvice);
  }

 private:
  bool found(std::string what) {
    fault = std::move(what);
    return false;
  }
  bool part() {
    return ++parts_ <= kMaxParts || found("the header describes more than any network has");
  }
  bool open() {
    names_.emplace_back();
    return names_.size() <= kMaxDepth
               ? part()
               : found(std::string("the header is nested too deep") + kAdvice);
  }
  bool close() {
    names_.pop_back();
    return true;
  }

  std::vector<std::set<std::string>> names_;  // of each object that is open
  std::size_t parts_ = 0;
};

class Reader {
 public:
  Reader(const Bytes& bytes, const std::string& name)
      : bytes_(bytes), name_(name), header_(header_size()) {}

  WeightsFile read() {
    const json header = parse_header();
    WeightsFile file;
    std::vector<Entry> entries;
    for (const auto& [key, value] : header.items()) {
      if (key == "__metadata__")
        file.remarks = value.dump(1, ' ', false, json::error_handler_t::replace);
      else
        entries.push_back(entry(key, value));
    }
    if (entries.empty()) fail("the file holds no tensors");
    check_layout(entries);
    TensorDict& dict = file.dicts.emplace_back();
    for (const Entry& e : entries) dict.tensors.set(e.name, copy(e));
    return file;
  }

 private:
  [[noreturn]] void fail(const std::string& message) const {
    throw DataError(name_, "safetensors: " + message);
  }
  [[noreturn]] void fail(const std::string& tensor, const std::string& message) const {
    fail("the tensor \"" + tensor.substr(0, 120) + "\" " + message + kAdvice);
  }

  std::uint64_t header_size() const {
    std::uint64_t size = 0;
    std::memcpy(&size, bytes_.data(), kLengthSize);
    if (size > kMaxHeader || size > bytes_.size() - kLengthSize)
      fail("the header claims " + std::to_string(size) + " bytes, the file has " +
           std::to_string(bytes_.size()) + " (at most 100 MB are a header)" + kAdvice);
    return size;
  }
  std::uint64_t data_size() const { return bytes_.size() - kLengthSize - header_; }

  json parse_header() const {
    const char* text = reinterpret_cast<const char*>(bytes_.data()) + kLengthSize;
    HeaderCheck check;
    json::sax_parse(text, text + header_, &check);
    if (!check.fault.empty()) fail(check.fault);
    return json::parse(text, text + header_);
  }

  std::int64_t whole(const std::string& tensor, const json& value) const {
    const bool fits = value.is_number_unsigned() &&
                      value.get<std::uint64_t>() <= static_cast<std::uint64_t>(INT64_MAX);
    if (!fits) fail(tensor, "has a size or an offset that is no whole number from 0 on");
    return value.get<std::int64_t>();
  }

  std::vector<std::int64_t> list(const std::string& tensor, const json& value,
                                 const char* key) const {
    if (!value.is_object() || !value.contains(key) || !value[key].is_array())
      fail(tensor, std::string("has no list '") + key + "'");
    std::vector<std::int64_t> numbers;
    for (const json& number : value[key]) numbers.push_back(whole(tensor, number));
    return numbers;
  }

  at::ScalarType dtype(const std::string& tensor, const json& value) const {
    if (!value.is_object() || !value.contains("dtype") || !value["dtype"].is_string())
      fail(tensor, "has no 'dtype'");
    const auto name = value["dtype"].get<std::string>();
    const auto known = std::find_if(kTypes.begin(), kTypes.end(),
                                    [&](const Type& type) { return type.name == name; });
    if (known == kTypes.end())
      fail("the tensor \"" + tensor.substr(0, 120) + "\" has the type " + name.substr(0, 20) +
           ", which is not read; convert it to F32 in Python");
    return known->dtype;
  }

  Entry entry(const std::string& name, const json& value) const {
    constexpr std::size_t kMaxDimensions = 64;  // as in PyTorch
    Entry e{name, dtype(name, value), list(name, value, "shape")};
    const auto offsets = list(name, value, "data_offsets");
    if (offsets.size() != 2) fail(name, "needs two offsets, where it begins and ends");
    if (e.shape.size() > kMaxDimensions) fail(name, "has more than 64 dimensions");
    e.begin = static_cast<std::uint64_t>(offsets[0]);
    e.end = static_cast<std::uint64_t>(offsets[1]);
    if (e.begin > e.end || e.end > data_size())
      fail(name, "reaches from byte " + std::to_string(e.begin) + " to " + std::to_string(e.end) +
                     " of " + std::to_string(data_size()) + " bytes of data");
    if (byte_count(e) != e.end - e.begin)
      fail(name, "takes " + std::to_string(e.end - e.begin) + " bytes, by its shape and type " +
                     std::to_string(byte_count(e)));
    return e;
  }

  std::uint64_t byte_count(const Entry& e) const {
    std::int64_t count = static_cast<std::int64_t>(at::elementSize(e.dtype));
    bool empty = false;  // an empty dimension must not hide an impossible one
    for (const std::int64_t size : e.shape) {
      empty = empty || size == 0;
      if (__builtin_mul_overflow(count, std::max<std::int64_t>(size, 1), &count))
        fail(e.name, "has an impossible size");
    }
    return empty ? 0 : static_cast<std::uint64_t>(count);
  }

  /// Sorts by place. Every byte must belong to one tensor.
  void check_layout(std::vector<Entry>& entries) const {
    std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
      return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
    });
    std::uint64_t end = 0;
    for (const Entry& e : entries) {
      if (e.begin < end) fail(e.name, "overlaps the tensor before it");
      if (e.begin > end) fail(e.name, "begins behind bytes that belong to no tensor");
      end = e.end;
    }
    if (end != data_size())
      fail("the last " + std::to_string(data_size() - end) + " bytes belong to no tensor" +
           kAdvice);
  }

  at::Tensor copy(const Entry& e) const {
    at::Tensor tensor = at::empty(e.shape, at::TensorOptions().dtype(e.dtype));
    if (e.begin == e.end) return tensor;
    const std::byte* from = bytes_.data() + kLengthSize + header_ + e.begin;
    auto* to = static_cast<std::byte*>(tensor.data_ptr());
    std::memcpy(to, from, e.end - e.begin);
    if (e.dtype == at::kBool)  // any other byte than 0 and 1 would be undefined behaviour
      for (std::uint64_t i = 0; i < e.end - e.begin; ++i) to[i] = std::byte{to[i] != std::byte{0}};
    return tensor;
  }

  const Bytes& bytes_;
  const std::string& name_;
  std::uint64_t header_;  // bytes
};

}  // namespace

bool is_safetensors(const Bytes& bytes) {
  return bytes.size() > kLengthSize + 1 && bytes[kLengthSize] == std::byte{'{'} &&
         (bytes[kLengthSize + 1] == std::byte{'"'} || bytes[kLengthSize + 1] == std::byte{'}'} ||
          bytes[kLengthSize + 1] == std::byte{' '});
}

WeightsFile parse_safetensors(const Bytes& bytes, const std::string& name) {
  return Reader(bytes, name).read();
}

}  // namespace sentinel
