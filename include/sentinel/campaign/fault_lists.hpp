#pragma once
#include <string>

#include "sentinel/core/bytes.hpp"

namespace sentinel {

/// A list to inject. DataError where it cannot be read, or is too large.
Bytes read_fault_list(const std::string& path);
/// As write_output.
void write_fault_list(const std::string& path, const std::string& text);

}  // namespace sentinel
