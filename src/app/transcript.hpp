#pragma once
#include <spdlog/sinks/sink.h>

#include <cstdio>
#include <memory>
#include <string>

namespace sentinel {

/// While it lives, what goes to stdout and to the log also goes to the end of a file; progress
/// lines do not. Of one process, not thread-safe against others that print to stdout.
class Transcript {
 public:
  /// EnvironmentError where the file cannot be written.
  explicit Transcript(const std::string& path);
  ~Transcript();
  Transcript(const Transcript&) = delete;
  Transcript& operator=(const Transcript&) = delete;

  /// A line in the file only.
  void add(const std::string& line);

 private:
  static ssize_t write_both(void* transcript, const char* text, std::size_t size);

  std::FILE* file_;
  std::FILE* stdout_;  // as it was
  spdlog::sink_ptr sink_;
};

}  // namespace sentinel
