#include "store/background.hpp"

#include <algorithm>

#include "store/lock.hpp"

namespace sentinel::store {

Keeper::Keeper(std::function<void()> heartbeat, std::chrono::milliseconds sync_interval)
    : heartbeat_(std::move(heartbeat)),
      sync_interval_(std::max(sync_interval, std::chrono::milliseconds(1))),
      thread_([this] { run(); }) {}

void Keeper::sync_by(std::function<void()> sync) {
  const std::lock_guard lock(mutex_);
  sync_ = std::move(sync);
}

void Keeper::rethrow() {
  const std::lock_guard lock(mutex_);
  if (error_) std::rethrow_exception(error_);
}

void Keeper::stop() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Keeper::run() {
  using Clock = std::chrono::steady_clock;
  auto beat = Clock::now() + ResultLock::kHeartbeat;
  auto sync_at = Clock::now() + sync_interval_;
  std::unique_lock lock(mutex_);
  while (!wake_.wait_until(lock, std::min(beat, sync_at), [this] { return stop_; })) {
    const auto sync = sync_;
    lock.unlock();
    std::exception_ptr error;
    try {
      if (Clock::now() >= beat) {
        heartbeat_();
        beat = Clock::now() + ResultLock::kHeartbeat;
      }
      if (Clock::now() >= sync_at) {
        if (sync) sync();
        sync_at = Clock::now() + sync_interval_;
      }
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    error_ = error;
    if (error_) return;
  }
}

Publisher::Publisher(std::function<void()> publish, std::chrono::milliseconds interval)
    : publish_(std::move(publish)),
      interval_(interval),
      due_(Clock::now() + interval_),
      thread_([this] { run(); }) {}

void Publisher::request() {
  {
    const std::lock_guard lock(mutex_);
    wanted_ = true;
  }
  wake_.notify_all();
}

void Publisher::request_if_due() {
  {
    const std::lock_guard lock(mutex_);
    if (wanted_ || Clock::now() < due_) return;
  }
  request();
}

void Publisher::rethrow() {
  const std::lock_guard lock(mutex_);
  if (const auto error = std::exchange(error_, nullptr)) std::rethrow_exception(error);
}

void Publisher::stop() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Publisher::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stop_ || wanted_; });
    if (stop_) return;
    lock.unlock();
    const auto begin = Clock::now();
    std::exception_ptr error;
    try {
      publish_();
    } catch (...) {
      error = std::current_exception();
    }
    const auto end = Clock::now();
    lock.lock();
    error_ = error;
    due_ = end + std::max<Clock::duration>(interval_, kShare * (end - begin));
    wanted_ = false;
  }
}

}  // namespace sentinel::store
