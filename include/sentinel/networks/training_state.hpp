#pragma once
#include <string>

namespace sentinel {

/// Where a training keeps its state until the output is there.
inline std::string state_beside(const std::string& output) {
  return output + ".training";
}
/// Throws what ends a program that was stopped during training: stop_code(), saying how to go on.
[[noreturn]] void throw_stopped(const std::string& state_file);

}  // namespace sentinel
