#include "sentinel/networks/training_state.hpp"

#include <fmt/format.h>

#include <filesystem>

#include "sentinel/core/error.hpp"
#include "sentinel/core/stop.hpp"

namespace sentinel {

void throw_stopped(const std::string& state_file) {
  const bool kept = !state_file.empty() && std::filesystem::exists(state_file);
  const std::string rest =
      kept ? "the epochs done are in " + state_file + "; run the same command again to go on"
           : "no epoch was done yet; run the same command again to start over";
  throw Error(stop_code(), fmt::format("stopped by signal {}: {}", stop_signal(), rest));
}

}  // namespace sentinel
