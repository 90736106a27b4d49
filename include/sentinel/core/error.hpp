#pragma once
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>

namespace sentinel {

/// Exit codes of the program (docs/exit_codes.md); the same on all ranks.
enum class ExitCode : int {
  kDone = 0,
  kMismatch = 1,      // replay or audit found a mismatch
  kUnmet = 3,         // done, and what was wished for is not there: protect found nothing that good
  kUsage = 64,        // bad options, ratios, BER, job keys
  kData = 65,         // missing, unreadable or wrong input; file and byte offset named
  kBug = 70,          // please report
  kEnvironment = 71,  // MPI, HDF5, disk full, not writable, lock held, device
  kStopped = 75,      // stopped early, everything stored, run again to resume
  kInterrupted = 130,
};

/// What library code throws; only main() prints and exits. One sentence that names the file,
/// Setting or layer and says what to do. Use one of the four leaves below.
class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

/// A wrong option, job key or combination of them (exit 64).
class UserError : public Error {
 public:
  explicit UserError(const std::string& message) : Error(ExitCode::kUsage, message) {}
};

/// Missing, broken or unsuitable input (exit 65): "path: [at byte offset:] message".
class DataError : public Error {
 public:
  DataError(const std::string& path, const std::string& message)
      : Error(ExitCode::kData, path + ": " + message) {}
  DataError(const std::string& path, std::uint64_t offset, const std::string& message)
      : Error(ExitCode::kData, path + ": at byte " + std::to_string(offset) + ": " + message) {}
};

/// MPI, HDF5, file system or device failed (exit 71).
class EnvironmentError : public Error {
 public:
  explicit EnvironmentError(const std::string& message) : Error(ExitCode::kEnvironment, message) {}
};

/// A broken invariant of ours (exit 70).
class Bug : public Error {
 public:
  explicit Bug(const std::string& message) : Error(ExitCode::kBug, message) {}
};

/// An error another rank reported and every rank now throws together, so that all may finalise MPI
/// and return its code; only rank 0 prints it. Made by Comm::agree and run_pool.
class SharedError : public Error {
 public:
  using Error::Error;
};

}  // namespace sentinel
