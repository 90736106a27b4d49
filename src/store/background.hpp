#pragma once
#include <chrono>
#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>

namespace sentinel::store {

/// A thread that renews the lease and syncs the journal at their intervals.
class Keeper {
 public:
  Keeper(std::function<void()> heartbeat, std::chrono::milliseconds sync_interval);
  Keeper(const Keeper&) = delete;
  Keeper& operator=(const Keeper&) = delete;
  ~Keeper() { stop(); }

  /// What to call at the sync interval, once there is something to sync.
  void sync_by(std::function<void()> sync);
  /// Throws the first error of the thread, every time.
  void rethrow();
  void stop();

 private:
  void run();

  std::function<void()> heartbeat_, sync_;
  std::chrono::milliseconds sync_interval_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false;
  std::exception_ptr error_;
  std::thread thread_;
};

/// A thread that publishes on request, no sooner than max(interval, 20 x the last duration) after
/// the last time.
class Publisher {
 public:
  Publisher(std::function<void()> publish, std::chrono::milliseconds interval);
  Publisher(const Publisher&) = delete;
  Publisher& operator=(const Publisher&) = delete;
  ~Publisher() { stop(); }

  void request();
  void request_if_due();
  /// Throws the error of the last publication, once.
  void rethrow();
  /// Waits for a running publication; a request not yet begun is dropped.
  void stop();

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr int kShare = 20;  // at most a twentieth of the time goes into publishing
  void run();

  std::function<void()> publish_;
  Clock::duration interval_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false, wanted_ = false;
  Clock::time_point due_;
  std::exception_ptr error_;
  std::thread thread_;
};

}  // namespace sentinel::store
