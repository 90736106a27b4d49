#include "app/transcript.hpp"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "sentinel/core/file.hpp"

namespace sentinel {

Transcript::Transcript(const std::string& path)
    : file_(std::fopen(path.c_str(), "a")), stdout_(stdout) {
  if (!file_) throw_errno("cannot write", path);
  // glibc lets a program replace its stdout.
  std::FILE* both = ::fopencookie(this, "w", {nullptr, write_both, nullptr, nullptr});
  if (!both) throw_errno("cannot copy stdout to", path);
  std::setvbuf(both, nullptr, _IOLBF, BUFSIZ);
  stdout = both;
  sink_ = std::make_shared<spdlog::sinks::basic_file_sink_mt>(path);
  sink_->set_pattern("[%H:%M:%S] %l: %v");
  spdlog::default_logger()->sinks().push_back(sink_);
  spdlog::default_logger()->flush_on(spdlog::level::info);  // so that lines stand in their order
}

Transcript::~Transcript() {
  std::fclose(stdout);
  stdout = stdout_;
  auto& sinks = spdlog::default_logger()->sinks();
  sinks.erase(std::remove(sinks.begin(), sinks.end(), sink_), sinks.end());
  std::fclose(file_);
}

void Transcript::add(const std::string& line) {
  std::fflush(stdout);
  std::fprintf(file_, "%s\n", line.c_str());
  std::fflush(file_);
}

ssize_t Transcript::write_both(void* transcript, const char* text, std::size_t size) {
  const auto& self = *static_cast<Transcript*>(transcript);
  std::fwrite(text, 1, size, self.file_);
  std::fflush(self.file_);
  const std::size_t written = std::fwrite(text, 1, size, self.stdout_);
  std::fflush(self.stdout_);
  return static_cast<ssize_t>(written);
}

}  // namespace sentinel
