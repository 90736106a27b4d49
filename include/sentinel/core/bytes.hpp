#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace sentinel {

using Bytes = std::vector<std::byte>;

/// Reads little-endian values from a buffer and never past its end. Does not own the buffer.
class ByteReader {
 public:
  /// `name` is the file named in errors; `base` is added to the offsets they state.
  ByteReader(const std::byte* data, std::size_t size, std::string name, std::uint64_t base = 0)
      : data_(data), size_(size), name_(std::move(name)), base_(base) {}
  ByteReader(const Bytes& bytes, std::string name)
      : ByteReader(bytes.data(), bytes.size(), std::move(name)) {}

  std::size_t offset() const { return offset_; }
  std::size_t remaining() const { return size_ - offset_; }
  bool done() const { return remaining() == 0; }
  const std::string& name() const { return name_; }

  /// The next n bytes; throws DataError where fewer remain.
  const std::byte* take(std::size_t n);
  /// A number or plain struct, as stored in memory (little-endian machines only).
  template <class T>
  T read() {
    static_assert(std::is_trivially_copyable_v<T>);
    T value;
    std::memcpy(&value, take(sizeof(T)), sizeof(T));
    return value;
  }
  std::string text(std::size_t n);
  void seek(std::size_t offset);
  /// Throws DataError naming the file and the current offset.
  [[noreturn]] void fail(const std::string& message) const;

 private:
  const std::byte* data_;
  std::size_t size_;
  std::string name_;
  std::uint64_t base_;
  std::size_t offset_ = 0;
};

/// Appends values to a buffer, the inverse of ByteReader.
class ByteWriter {
 public:
  template <class T>
  void write(const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    append(&value, sizeof(T));
  }
  void text(std::string_view text) { append(text.data(), text.size()); }
  /// Length (u64), then the elements.
  template <class T>
  void vector(const std::vector<T>& values) {
    static_assert(std::is_trivially_copyable_v<T>);
    write<std::uint64_t>(values.size());
    append(values.data(), values.size() * sizeof(T));
  }
  void append(const void* data, std::size_t size);
  Bytes take() { return std::move(bytes_); }
  const Bytes& bytes() const { return bytes_; }

 private:
  Bytes bytes_;
};

/// What ByteWriter::vector wrote.
template <class T>
std::vector<T> read_vector(ByteReader& reader) {
  const auto count = reader.read<std::uint64_t>();
  if (count > reader.remaining() / sizeof(T)) reader.fail("a list is longer than the data");
  std::vector<T> values(count);
  if (count > 0) std::memcpy(values.data(), reader.take(count * sizeof(T)), count * sizeof(T));
  return values;
}

}  // namespace sentinel
