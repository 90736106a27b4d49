#include "sentinel/core/bytes.hpp"

#include "sentinel/core/error.hpp"

namespace sentinel {

const std::byte* ByteReader::take(std::size_t n) {
  if (n > remaining())
    fail("the file ends here, " + std::to_string(n - remaining()) + " bytes early (truncated?)");
  const std::byte* here = data_ + offset_;
  offset_ += n;
  return here;
}

std::string ByteReader::text(std::size_t n) {
  const std::byte* here = take(n);
  return std::string(reinterpret_cast<const char*>(here), n);
}

void ByteReader::seek(std::size_t offset) {
  if (offset > size_) fail("offset " + std::to_string(offset) + " lies behind the end of the file");
  offset_ = offset;
}

void ByteReader::fail(const std::string& message) const {
  throw DataError(name_, base_ + offset_, message);
}

void ByteWriter::append(const void* data, std::size_t size) {
  const auto* begin = static_cast<const std::byte*>(data);
  bytes_.insert(bytes_.end(), begin, begin + size);
}

}  // namespace sentinel
