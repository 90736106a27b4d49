#include "app/resolved_options.hpp"

#include <fmt/format.h>
#include <toml++/toml.h>

#include <sstream>
#include <vector>

namespace sentinel {
namespace {

/// Empty where it is no TOML.
toml::table parsed(const std::string& value) {
  try {
    return toml::parse("value=" + value);
  } catch (const toml::parse_error&) {
    return {};
  }
}

std::string hex_of(const std::string& text) {
  std::string hex;
  for (const char c : text) hex += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return "{hex=\"" + hex + "\"}";
}

std::string quoted(const std::string& text) {
  std::ostringstream out;
  const toml::value<std::string> value{text};
  out << toml::default_formatter{value, toml::format_flags::allow_unicode_strings};
  const bool same = parsed(out.str())["value"].value<std::string>() == text;
  return same ? out.str() : hex_of(text);
}

bool is_number(const std::string& text) {
  return text.find_first_not_of("0123456789+-.eE") == std::string::npos && !parsed(text).empty();
}

bool is_flag(const CLI::Option& option) {
  return option.get_expected_min() == 0;
}

/// A number is written as one only where the option wants one: a file may be called 1e5.
std::string value_of(const CLI::Option& option, const std::string& text) {
  const std::string type = option.get_type_name();
  const auto wants = [&](const char* kind) { return type.rfind(kind, 0) == 0; };
  const bool number = wants("FLOAT") || wants("INT") || wants("UINT");
  const bool bare = is_flag(option) ? text == "true" || text == "false" : number && is_number(text);
  return bare ? text : quoted(text);
}

/// Empty where the option has no value.
std::string value_of(const CLI::Option& option) {
  const std::vector<std::string> given = option.reduced_results();
  if (excluding(option)) return "";
  if (given.empty() && is_flag(option)) return "false";
  if (given.empty()) {
    const std::string usual = option.get_default_str();
    return usual.empty() || usual == "[]" ? "" : value_of(option, usual);
  }
  if (given.size() == 1) return given[0].empty() ? "" : value_of(option, given[0]);
  std::string list;
  for (const std::string& text : given) list += (list.empty() ? "" : ", ") + value_of(option, text);
  return "[" + list + "]";
}

}  // namespace

const CLI::Option* excluding(const CLI::Option& option) {
  for (const CLI::Option* other : option.get_excludes())
    if (other->count() > 0) return other;
  return nullptr;
}

std::string resolved_options(const CLI::App& command) {
  std::string table = "[" + command.get_name() + "]\n";
  for (const CLI::Option* option : command.get_options()) {
    if (!option->get_configurable()) continue;
    const std::string value = value_of(*option);
    if (!value.empty()) table += option->get_single_name() + "=" + value + "\n";
  }
  return table;
}

}  // namespace sentinel
