#pragma once
#include <string>

namespace sentinel {

/// Whether a number of seconds since 1970 is one that a clock may show: of the years 1970 to 9999.
/// Not so: NaN, infinity, negative and larger numbers.
bool is_time(double unix_seconds);
/// "2026-01-31T12:00:00Z"; "an unknown time" where is_time says no.
std::string utc_text(double unix_seconds);

}  // namespace sentinel
