#pragma once
#include <exception>
#include <string>

#include "sentinel/core/error.hpp"

namespace sentinel {

/// How the program ends by an exception.
struct Failure {
  ExitCode code;
  std::string message;
};

/// The code and message of an Error; memory that is not there, of the host or a device and in
/// LibTorch's words too (exit 71); a bug otherwise (exit 70).
Failure failure_of(const std::exception& error);

}  // namespace sentinel
