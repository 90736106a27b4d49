#pragma once
#include <string>

namespace sentinel {

/// Tables of a result file on stdout, or one JSON object.
void print_result(const std::string& path, bool json);

}  // namespace sentinel
