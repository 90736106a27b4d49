#include "sentinel/core/stop.hpp"

#include <csignal>
#include <cstdlib>
#include <initializer_list>

namespace sentinel {
namespace {

// The one variable a signal handler may set.
volatile std::sig_atomic_t stop_flag = 0;

void on_signal(int signal) {
  if (signal == SIGINT && stop_flag == SIGINT) std::_Exit(130);
  stop_flag = signal;
}

}  // namespace

void install_stop_handlers() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (int signal : {SIGTERM, SIGUSR1, SIGINT}) sigaction(signal, &action, nullptr);
}

int stop_signal() {
  return stop_flag;
}

void request_stop(int signal) {
  stop_flag = signal;
}

}  // namespace sentinel
