#pragma once
#include "sentinel/core/error.hpp"

namespace sentinel {

/// Makes SIGTERM, SIGUSR1 and SIGINT set a flag (async-signal-safe) instead of ending the process;
/// a second SIGINT ends it at once.
void install_stop_handlers();

/// The signal that asked for a stop, 0 if none did.
int stop_signal();

/// The exit code for the stop that was asked for: kInterrupted for SIGINT, else kStopped.
ExitCode stop_code();

/// Sets the flag as a signal would (tests; a stop another rank saw).
void request_stop(int signal);

}  // namespace sentinel
