#pragma once
#include <string>

namespace sentinel {

/// Whether a number of seconds since 1970 is one that a clock may show: of the years 1900 to 9999;
/// that of a machine may have never been set. Not so: NaN, infinity and other numbers.
bool is_time(double unix_seconds);
/// "2026-01-31T12:00:00Z"; "an unknown time" where is_time says no.
std::string utc_text(double unix_seconds);

}  // namespace sentinel
