#pragma once
#include <cstddef>
#include <string>
#include <string_view>

namespace sentinel {

/// More than any file of ours or of a network holds; a parsed value takes up to some 100 bytes.
inline constexpr std::size_t kMaxJsonDepth = 100, kMaxJsonValues = std::size_t{1} << 20;

/// Why a JSON text must not be parsed: it is nested too deep, for which programs end by a crash, or
/// holds so many values that they do not fit in memory. Empty where it may be; it need not be JSON.
std::string json_excess(std::string_view text);
/// The same as a DataError that names the file. Before every parse of what others wrote.
void check_json(const std::string& path, std::string_view text);

}  // namespace sentinel
