#pragma once
#include <memory>
#include <string>

namespace sentinel {

/// Held while one process makes the file at `path` for hours: `<path>.lock`, as a result has it.
class FileLock {
 public:
  /// Waits for another holder as long as a campaign does, then throws EnvironmentError naming it.
  /// UserError where another file is called so. An empty path is not locked.
  explicit FileLock(const std::string& path);
  ~FileLock();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sentinel
