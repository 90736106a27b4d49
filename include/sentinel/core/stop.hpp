#pragma once
#include "sentinel/core/error.hpp"

namespace sentinel {

/// Makes SIGINT and the signals of batch systems (SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU) set a flag
/// (async-signal-safe) while somebody looks at it (StopWatch), and end the process at once with
/// stop_code() and a sentence while nobody does: during the set-up there is nothing to store. So
/// does the SIGHUP of a lost terminal unless it is ignored, as by nohup. A second SIGINT always
/// ends the process at once.
void install_stop_handlers();

/// While one lives, stop_signal() is looked at, and the work ends in good order.
class StopWatch {
 public:
  StopWatch();
  ~StopWatch();
  StopWatch(const StopWatch&) = delete;
  StopWatch& operator=(const StopWatch&) = delete;
};

/// The signal that asked for a stop, 0 if none did.
int stop_signal();

/// Throws what ends a program that was asked to stop while nothing is left to store.
void require_not_stopped();

/// The exit code for the stop that was asked for: kInterrupted for SIGINT, else kStopped.
ExitCode stop_code();

/// Sets the flag as a signal would (tests; a stop another rank saw).
void request_stop(int signal);

}  // namespace sentinel
