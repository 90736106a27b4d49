#include "sentinel/core/log.hpp"

#include <fmt/format.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace sentinel {
namespace {

/// The message as %* of a pattern.
class PrintableMessage : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&,
              spdlog::memory_buf_t& line) override {
    const std::string text = printable({message.payload.begin(), message.payload.end()});
    line.append(text.data(), text.data() + text.size());
  }
  std::unique_ptr<custom_flag_formatter> clone() const override {
    return std::make_unique<PrintableMessage>();
  }
};

struct Character {
  std::uint32_t code = 0;
  std::size_t bytes = 1;
};

/// The text is valid UTF-8.
Character character_at(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) {
    return static_cast<std::uint32_t>(static_cast<unsigned char>(text[at + i]));
  };
  const std::uint32_t first = byte(0);
  if (first < 0xC0) return {first, 1};
  const std::size_t bytes = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  std::uint32_t code = first & (0x7Fu >> bytes);
  for (std::size_t i = 1; i < bytes; ++i) code = code << 6 | (byte(i) & 0x3Fu);
  return {code, bytes};
}

/// DEL, the second set of control characters (U+009B begins a sequence as ESC [ does), ends of
/// lines, and marks that turn the direction of the text after them.
bool is_obeyed(std::uint32_t code) {
  return (code >= 0x7F && code <= 0x9F) || code == 0x61C || (code >= 0x200E && code <= 0x200F) ||
         (code >= 0x2028 && code <= 0x202E) || (code >= 0x2066 && code <= 0x2069);
}

}  // namespace

std::string printable(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  const auto plain = [](char c) { return c >= 0x20 && c < 0x7F; };
  if (std::all_of(text.begin(), text.end(), plain)) return text;
  const std::string quoted =
      nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  std::string result;
  for (std::size_t i = 1; i + 1 < quoted.size();) {
    if (quoted[i] == '\\' && (quoted[i + 1] == '"' || quoted[i + 1] == '\\')) ++i;
    const Character next = character_at(quoted, i);
    result +=
        is_obeyed(next.code) ? fmt::format("\\u{:04x}", next.code) : quoted.substr(i, next.bytes);
    i += next.bytes;
  }
  return result;
}

std::string printable_lines(std::string_view text) {
  std::string result;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    result += printable(std::string(text.substr(begin, end - begin)));
    if (end < text.size()) result += '\n';
    begin = end + 1;
  }
  return result;
}

void write_stderr(const std::string& text) {
  std::fputs(text.c_str(), stderr);
  std::fflush(stderr);
}

std::string duration_text(double seconds) {
  const auto s = std::lround(seconds);
  if (s >= 3600) return fmt::format("{}:{:02}:{:02} h", s / 3600, s / 60 % 60, s % 60);
  return fmt::format("{}:{:02} min", s / 60, s % 60);
}

std::unique_ptr<spdlog::formatter> printable_formatter(const std::string& pattern) {
  auto formatter = std::make_unique<spdlog::pattern_formatter>();
  formatter->add_flag<PrintableMessage>('*').set_pattern(pattern);
  return formatter;
}

void setup_logging(int rank) {
  auto logger = std::make_shared<spdlog::logger>(
      "sentinelnn", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
  logger->set_formatter(printable_formatter(
      rank == 0 ? "[%H:%M:%S] %^%l%$: %*" : fmt::format("[%H:%M:%S] rank {} %l: %*", rank)));
  logger->set_error_handler([](const std::string&) {});  // there is nowhere to say it
  logger->set_level(rank == 0 ? spdlog::level::info : spdlog::level::err);
  spdlog::set_default_logger(logger);
}

Progress::Progress(std::string what, std::string unit, std::uint64_t total,
                   std::uint64_t done_before)
    : what_(std::move(what)),
      unit_(std::move(unit)),
      total_(total),
      done_before_(done_before),
      start_(Clock::now()),
      last_(start_),
      terminal_(::isatty(STDERR_FILENO) == 1 && spdlog::should_log(spdlog::level::info)) {}

Progress::~Progress() {
  if (drawn_) write_stderr("\n");
}

std::string Progress::line(std::uint64_t done, const std::string& note) const {
  const double seconds = std::chrono::duration<double>(Clock::now() - start_).count();
  const double rate =
      static_cast<double>(done - std::min(done, done_before_)) / std::max(seconds, 1e-3);
  const double left = rate > 0 ? static_cast<double>(total_ - std::min(done, total_)) / rate : 0;
  return fmt::format("{}: {}/{} {} · {:.1f} {}/s · {} left{}{}", what_, done, total_, unit_, rate,
                     unit_, duration_text(left), note.empty() ? "" : " · ", note);
}

void Progress::update(std::uint64_t done, const std::string& note) {
  const auto now = Clock::now();
  const auto interval =
      terminal_ ? std::chrono::milliseconds(250) : std::chrono::milliseconds(60000);
  if (now - last_ < interval && !(terminal_ && done == total_)) return;
  last_ = now;
  if (terminal_) {
    write_stderr("\r\033[K" + printable(line(done, note)));
    drawn_ = true;
  } else {
    spdlog::info("{}", line(done, note));
  }
}

}  // namespace sentinel
