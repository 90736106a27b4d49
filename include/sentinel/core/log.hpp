#pragma once
#include <spdlog/spdlog.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace sentinel {

/// One line of valid UTF-8 without anything that a terminal obeys (control characters of both sets,
/// marks that turn the direction of text): messages quote files, which may be hostile. Such
/// characters are written as in JSON, "\u001b".
std::string printable(std::string text);
/// The same of several lines: their ends stay.
std::string printable_lines(std::string_view text);

/// Text to stderr, as it is. Where that cannot be written the text is lost, and the work goes on.
void write_stderr(const std::string& text);

/// A formatter by spdlog's pattern, in which %* stands for the message made printable.
std::unique_ptr<spdlog::formatter> printable_formatter(const std::string& pattern);

/// Sends spdlog to stderr, every message printable; ranks other than 0 log errors only. Library
/// code logs by spdlog::info/warn. Lines that cannot be written are lost, and the work goes on.
void setup_logging(int rank);

/// "2:05 min", "1:02:05 h".
std::string duration_text(double seconds);

/// A progress line on stderr: done/total, rate, time left and a note. On a terminal it is redrawn
/// about four times a second, elsewhere it is a log line a minute.
class Progress {
 public:
  Progress(std::string what, std::string unit, std::uint64_t total, std::uint64_t done_before = 0);
  ~Progress();
  /// Of what was not known when the work began.
  void expect(std::uint64_t total) { total_ = total; }
  void update(std::uint64_t done, const std::string& note = {});

 private:
  using Clock = std::chrono::steady_clock;
  std::string line(std::uint64_t done, const std::string& note) const;
  std::string what_, unit_;
  std::uint64_t total_, done_before_;
  Clock::time_point start_, last_;
  bool terminal_, drawn_ = false;
};

/// The program's version with the git commit it was built from.
const char* version();

}  // namespace sentinel
