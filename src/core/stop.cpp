#include "sentinel/core/stop.hpp"

#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <initializer_list>
#include <string>

namespace sentinel {
namespace {

// Set by a signal handler, which may touch lock-free atomics only, and by the driver's thread; read
// by the worker's.
std::atomic<int> stop_flag{0};
static_assert(std::atomic<int>::is_always_lock_free);

std::atomic<int> watches{0};

void on_signal(int signal) {
  if (signal == SIGINT && stop_flag == SIGINT) std::_Exit(130);
  if (watches == 0) {
    constexpr char kStopped[] =
        "sentinelnn: stopped by a signal; there was nothing to store, run the same command again\n";
    [[maybe_unused]] const ssize_t told = ::write(STDERR_FILENO, kStopped, sizeof kStopped - 1);
    std::_Exit(static_cast<int>(signal == SIGINT ? ExitCode::kInterrupted : ExitCode::kStopped));
  }
  stop_flag = signal;
}

}  // namespace

void install_stop_handlers() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (int signal : {SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU, SIGINT})
    sigaction(signal, &action, nullptr);
  struct sigaction hangup {};
  sigaction(SIGHUP, nullptr, &hangup);
  if (hangup.sa_handler != SIG_IGN) sigaction(SIGHUP, &action, nullptr);
}

StopWatch::StopWatch() {
  ++watches;
}

StopWatch::~StopWatch() {
  --watches;
}

int stop_signal() {
  return stop_flag;
}

void request_stop(int signal) {
  stop_flag = signal;
}

void require_not_stopped() {
  if (stop_flag != 0)
    throw Error(stop_code(), "stopped by signal " + std::to_string(stop_flag) +
                                 "; run the same command again to go on");
}

ExitCode stop_code() {
  return stop_signal() == SIGINT ? ExitCode::kInterrupted : ExitCode::kStopped;
}

}  // namespace sentinel
