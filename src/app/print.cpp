#include "app/print.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace sentinel {
namespace {

// As stdout itself, one for the process: the first reason why something was lost.
std::atomic<int> lost{0};

std::atomic<bool> pipe_signal_ignored{false};  // by the caller of the program

}  // namespace

void prepare_streams() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(fd, F_GETFD) >= 0 || errno != EBADF) continue;
    // The other way round, so that using it fails as it would if it were closed.
    [[maybe_unused]] const int holder =
        ::open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
  }
  pipe_signal_ignored = std::signal(SIGPIPE, SIG_IGN) == SIG_IGN;
  std::signal(SIGXFSZ, SIG_IGN);
}

void print_raw(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) note_lost_output(errno);
}

void flush_output() {
  if (std::fflush(stdout) != 0) note_lost_output(errno);
}

void note_lost_output(int error) {
  int none = 0;
  lost.compare_exchange_strong(none, error);
}

int lost_output() {
  flush_output();
  return lost;
}

void end_by_broken_pipe() {
  if (pipe_signal_ignored) return;
  std::signal(SIGPIPE, SIG_DFL);
  std::raise(SIGPIPE);
}

void say_lines(std::string_view lines) {
  print_raw(printable_lines(lines));
}

void say_json(const nlohmann::json& object) {
  constexpr auto kReplace = nlohmann::json::error_handler_t::replace;
  say("{}\n", object.dump(-1, ' ', false, kReplace));
}

}  // namespace sentinel
