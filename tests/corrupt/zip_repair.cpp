#include "corrupt/zip_repair.hpp"

#include <zlib.h>

#include "corrupt/target.hpp"

namespace sentinel::test {
namespace {

template <class T>
T number_at(const Bytes& file, std::size_t at) {
  T value{};
  if (at <= file.size() && file.size() - at >= sizeof value)
    std::memcpy(&value, file.data() + at, sizeof value);
  return value;
}

}  // namespace

void repair_zip(Bytes& file) {
  const std::size_t end = to_text(file).rfind("PK\x05\x06");
  if (end == std::string_view::npos) return;
  std::size_t entry = number_at<std::uint32_t>(file, end + 16);
  while (number_at<std::uint32_t>(file, entry) == 0x02014b50 && file.size() - entry >= 46) {
    const std::size_t header = number_at<std::uint32_t>(file, entry + 42);
    const std::size_t data = header + 30 + number_at<std::uint16_t>(file, header + 26) +
                             number_at<std::uint16_t>(file, header + 28);
    const std::size_t size = number_at<std::uint32_t>(file, entry + 20);
    if (data <= file.size() && size <= file.size() - data) {
      const auto* begin = reinterpret_cast<const Bytef*>(file.data() + data);
      const auto crc = static_cast<std::uint32_t>(crc32_z(crc32_z(0, nullptr, 0), begin, size));
      std::memcpy(file.data() + entry + 16, &crc, sizeof crc);
    }
    entry += 46ul + number_at<std::uint16_t>(file, entry + 28) +
             number_at<std::uint16_t>(file, entry + 30) +
             number_at<std::uint16_t>(file, entry + 32);
  }
}

}  // namespace sentinel::test
