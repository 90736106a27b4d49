#include "app/transcript.hpp"

#include <fcntl.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "app/print.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/core/file.hpp"

namespace sentinel {
namespace {

/// Whether a file has a NUL near its begin: no log has, that of the original tool neither.
bool is_binary(const std::string& path) {
  std::string begin(512, '\1');
  begin.resize(FileHandle(path, O_RDONLY).read_at(begin.data(), begin.size(), 0));
  return begin.find('\0') != std::string::npos;
}

std::FILE* open_log(const std::string& path) {
  require_writable(path);
  std::error_code none;
  if (std::filesystem::exists(path, none) && is_binary(path))
    throw UserError(path + " is there already and is no log; remove it");
  return std::fopen(path.c_str(), "a");
}

}  // namespace

Transcript::Transcript(const std::string& path) : file_(open_log(path)), stdout_(stdout) {
  if (!file_) throw_errno("cannot write", path);
  // glibc lets a program replace its stdout.
  std::FILE* both = ::fopencookie(this, "w", {nullptr, write_both, nullptr, nullptr});
  if (!both) throw_errno("cannot copy stdout to", path);
  std::setvbuf(both, nullptr, _IOLBF, BUFSIZ);
  stdout = both;
  sink_ = std::make_shared<spdlog::sinks::basic_file_sink_mt>(path);
  sink_->set_formatter(printable_formatter("[%H:%M:%S] %l: %*"));
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
  flush_output();
  if (std::fprintf(file_, "%s\n", printable(line).c_str()) < 0 || std::fflush(file_) != 0)
    note_lost_output(errno);
}

ssize_t Transcript::write_both(void* transcript, const char* text, std::size_t size) {
  const auto& self = *static_cast<Transcript*>(transcript);
  for (std::FILE* file : {self.file_, self.stdout_})
    if (std::fwrite(text, 1, size, file) != size || std::fflush(file) != 0) note_lost_output(errno);
  return static_cast<ssize_t>(size);
}

}  // namespace sentinel
