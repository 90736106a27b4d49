#include "sentinel/core/time.hpp"

#include <array>
#include <ctime>

namespace sentinel {

bool is_time(double unix_seconds) {
  constexpr double kYear1900 = -2208988800, kYear10000 = 253402300800;  // [s since 1970]
  return unix_seconds >= kYear1900 && unix_seconds < kYear10000;
}

std::string utc_text(double unix_seconds) {
  std::tm utc{};
  const auto seconds = static_cast<std::time_t>(is_time(unix_seconds) ? unix_seconds : 0);
  if (!is_time(unix_seconds) || !::gmtime_r(&seconds, &utc)) return "an unknown time";
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text.data();
}

}  // namespace sentinel
