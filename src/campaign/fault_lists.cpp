#include "sentinel/campaign/fault_lists.hpp"

#include <fmt/format.h>

#include <filesystem>

#include "sentinel/core/error.hpp"
#include "sentinel/core/file.hpp"
#include "sentinel/fault/fault_list.hpp"
#include "sentinel/networks/outputs.hpp"

namespace sentinel {

void look_at_list(const Comm& comm, FaultsJob& faults) {
  if (faults.list.empty()) return;
  const Bytes told = comm.from_root([&] {
    const Bytes bytes = read_fault_list(faults.list);
    ByteWriter writer;
    writer.write<std::uint8_t>(
        lists_outputs({reinterpret_cast<const char*>(bytes.data()), bytes.size()}) ? 1 : 0);
    return writer.take();
  });
  faults.lists_outputs = ByteReader(told, "kind of the list").read<std::uint8_t>() == 1;
}

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
