#include "sentinel/core/json.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "sentinel/core/error.hpp"

namespace sentinel {
namespace {

/// The end of the string that begins at `begin`, which is behind its first quotation mark.
std::size_t string_end(std::string_view text, std::size_t begin) {
  std::size_t i = begin;
  while (i < text.size() && text[i] != '"') i += text[i] == '\\' ? 2 : 1;
  return std::min(i, text.size());
}

}  // namespace

std::string json_excess(std::string_view text) {
  std::size_t depth = 0, values = 1;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '"') i = string_end(text, i + 1);
    if (c == '[' || c == '{') ++depth;
    if ((c == ']' || c == '}') && depth > 0) --depth;
    values += c == ',' || c == '[' || c == '{';
    if (depth > kMaxJsonDepth)
      return fmt::format("its JSON is nested more than {} deep (at byte {} of it)", kMaxJsonDepth,
                         i);
    if (values > kMaxJsonValues)
      return fmt::format("its JSON holds more than {} values", kMaxJsonValues);
  }
  return "";
}

void check_json(const std::string& path, std::string_view text) {
  const std::string excess = json_excess(text);
  if (!excess.empty()) throw DataError(path, excess);
}

}  // namespace sentinel
