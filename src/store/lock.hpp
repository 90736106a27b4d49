#pragma once
#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "sentinel/core/file.hpp"

namespace sentinel::store {

/// Who holds a result, as written into its lock file.
struct Lease {
  std::string host, machine;  // machine: boot id, tells one kernel from another
  long pid = 0;
  double since = 0, heartbeat = 0;  // [s since 1970]

  /// The same holder, and no heartbeat in between.
  bool same(const Lease& other) const { return same_holder(other) && heartbeat == other.heartbeat; }
  bool same_holder(const Lease& other) const {
    return host == other.host && machine == other.machine && pid == other.pid &&
           since == other.since;
  }
};

/// `<result>.lock`: flock(), which decides between processes of one machine, and a lease with a
/// heartbeat, which decides where file locks do not reach from host to host. A lease counts as dead
/// when it stood still for a while, by the clock of who waits: two hosts' clocks may differ.
class ResultLock {
 public:
  /// Waits up to `wait` for another holder, then throws EnvironmentError naming it. `stale`: how
  /// long a lease stands still before it is dead.
  ResultLock(const std::string& result, std::chrono::milliseconds wait,
             std::chrono::milliseconds stale = kStale);
  ResultLock(const ResultLock&) = delete;
  ResultLock& operator=(const ResultLock&) = delete;
  ~ResultLock() { release(); }

  static constexpr std::chrono::seconds kHeartbeat{5};
  static constexpr std::chrono::seconds kStale{30};
  /// Renews the lease. Throws EnvironmentError where the lock was lost (another host took a lease
  /// that looked dead, or the file was removed). Thread-safe.
  void heartbeat();
  /// Removes the file and lets go.
  void release();

 private:
  bool try_acquire();
  bool confirm();
  bool stands_still(const Lease& lease);

  std::string path_;
  std::chrono::milliseconds stale_;
  Lease own_, holder_;
  std::optional<Lease> seen_;
  std::chrono::steady_clock::time_point seen_since_;
  std::unique_ptr<FileHandle> file_;
  std::mutex mutex_;  // of heartbeat()
  bool lost_ = false;
};

}  // namespace sentinel::store
