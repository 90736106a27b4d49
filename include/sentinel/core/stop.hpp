#pragma once
#include "sentinel/core/error.hpp"

namespace sentinel {

/// Makes SIGINT and the signals of batch systems (SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU) set a flag
/// (async-signal-safe) instead of ending the process; so does the SIGHUP of a lost terminal unless
/// it is ignored, as by nohup. A second SIGINT ends the process at once.
void install_stop_handlers();

/// The signal that asked for a stop, 0 if none did.
int stop_signal();

/// The exit code for the stop that was asked for: kInterrupted for SIGINT, else kStopped.
ExitCode stop_code();

/// Sets the flag as a signal would (tests; a stop another rank saw).
void request_stop(int signal);

}  // namespace sentinel
