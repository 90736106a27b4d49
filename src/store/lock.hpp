#pragma once
#include <chrono>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>

#include "sentinel/core/file.hpp"

namespace sentinel::store {

/// Who holds a result, as written into its lock file.
struct Lease {
  std::string host, machine;  // machine: boot id, tells one kernel from another
  long pid = 0;
  double since = 0, heartbeat = 0;  // [s since 1970]

  bool same_holder(const Lease& other) const {
    return host == other.host && machine == other.machine && pid == other.pid &&
           since == other.since;
  }
  /// The same lease, not renewed. Compared as bits: a damaged heartbeat may be NaN.
  bool same_as(const Lease& other) const {
    return same_holder(other) && std::memcmp(&heartbeat, &other.heartbeat, sizeof heartbeat) == 0;
  }
};

/// `<result>.lock`: flock(), which decides between processes of one machine, and a lease with a
/// heartbeat, which decides where file locks do not reach from host to host.
class ResultLock {
 public:
  /// Waits up to `wait` for another holder, then throws EnvironmentError naming it.
  ResultLock(const std::string& result, std::chrono::milliseconds wait);
  ResultLock(const ResultLock&) = delete;
  ResultLock& operator=(const ResultLock&) = delete;
  ~ResultLock() { release(); }

  static constexpr std::chrono::seconds kHeartbeat{5};
  static constexpr double kStale = 30;  // [s] without heartbeat
  /// Renews the lease. Throws EnvironmentError where the lock was lost (another host took a lease
  /// that looked dead, or the file was removed). Thread-safe.
  void heartbeat();
  /// Removes the file and lets go.
  void release();

 private:
  bool try_acquire();
  bool confirm();

  std::string path_;
  Lease own_, holder_;
  std::chrono::steady_clock::time_point seen_;  // when the holder's lease was first as it is
  std::unique_ptr<FileHandle> file_;
  std::mutex mutex_;  // of heartbeat()
  bool lost_ = false;
};

}  // namespace sentinel::store
