#pragma once
#include <fmt/format.h>

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <type_traits>

#include "sentinel/core/error.hpp"
#include "sentinel/core/log.hpp"

namespace sentinel {

/// Before anything else: a standard stream that is closed gets a place holder, as the next file
/// opened would take its number; and writing into a broken pipe, or beyond the limit of file sizes,
/// gives an error instead of a signal.
void prepare_streams();

/// Text to stdout, as it is. What cannot be written is lost; lost_output() tells.
void print_raw(std::string_view text);
void flush_output();
/// That what is printed goes to a file too and could not be written there, by errno.
void note_lost_output(int error);
/// Why something that was printed is lost, by errno; 0 where nothing is. Flushes.
int lost_output();
/// Ends the process as a tool ends whose reader has enough: by SIGPIPE, without a word. Returns
/// where the caller of the program ignores that signal.
void end_by_broken_pipe();

/// Texts made printable, everything else as it is.
template <class T>
decltype(auto) shown(const T& value) {
  if constexpr (std::is_convertible_v<const T&, std::string_view>)
    return printable(std::string(std::string_view(value)));
  else
    return value;
}

/// As fmt::print to stdout. Texts among the arguments are made printable: a name from a file can
/// neither end the line nor command the terminal.
template <class... Args>
void say(std::string_view format, const Args&... args) {
  [format](const auto&... texts) {
    print_raw(fmt::vformat(format, fmt::make_format_args(texts...)));
  }(shown(args)...);
}
/// Several lines of text from a file, or of --help.
void say_lines(std::string_view lines);
/// One JSON object, for programs; bytes that are no UTF-8 are replaced.
void say_json(const nlohmann::json& object);

}  // namespace sentinel
