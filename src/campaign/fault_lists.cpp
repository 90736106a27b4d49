#include "sentinel/campaign/fault_lists.hpp"

#include <fmt/format.h>

#include <filesystem>

#include "sentinel/core/error.hpp"
#include "sentinel/core/file.hpp"
#include "sentinel/fault/fault_list.hpp"
#include "sentinel/networks/outputs.hpp"

namespace sentinel {

Bytes read_fault_list(const std::string& path) {
  std::error_code unknown;
  const std::uintmax_t size = std::filesystem::file_size(path, unknown);
  if (!unknown && size > kMostListBytes)
    throw DataError(path, fmt::format("has {} bytes, and a list of faults {} at most; divide it "
                                      "into several",
                                      size, kMostListBytes));
  return read_file(path, kMostListBytes);
}

void write_fault_list(const std::string& path, const std::string& text) {
  ByteWriter content;
  content.text(text);
  write_output({path, FileKind::kFaultList}, content.take());
}

}  // namespace sentinel
