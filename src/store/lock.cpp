#include "store/lock.hpp"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "sentinel/core/error.hpp"
#include "sentinel/core/json.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/core/stop.hpp"
#include "sentinel/core/time.hpp"
#include "store/journal.hpp"
#include "store/working_files.hpp"

namespace sentinel::store {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kLeaseBytes = 512;  // one size always, so that one write replaces it whole
constexpr std::chrono::milliseconds kPoll{200};

Lease own_lease() {
  Lease lease;
  std::array<char, 256> host{};
  if (::gethostname(host.data(), host.size() - 1) == 0) lease.host = host.data();
  lease.host.resize(std::min<std::size_t>(lease.host.size(), 64));
  std::ifstream boot("/proc/sys/kernel/random/boot_id");
  if (!std::getline(boot, lease.machine)) lease.machine = lease.host;
  lease.machine.resize(std::min<std::size_t>(lease.machine.size(), 64));
  lease.pid = ::getpid();
  lease.since = lease.heartbeat = unix_time();
  return lease;
}

std::string text_of(const Lease& lease) {
  std::string text = json{
      {"host", lease.host},
      {"machine", lease.machine},
      {"pid", lease.pid},
      {"since", lease.since},
      {"heartbeat",
       lease.heartbeat}}.dump(-1, ' ', false, json::error_handler_t::replace);
  text.resize(kLeaseBytes - 1, ' ');
  return text + '\n';
}

/// Discarded where it is none.
json json_in(const FileHandle& file) {
  std::string text(kLeaseBytes, '\0');
  text.resize(file.read_at(text.data(), text.size(), 0));
  return json::parse(json_excess(text).empty() ? text : "", nullptr, false);
}

/// Nothing where the file holds no lease (just created, or cut short by a crash).
std::optional<Lease> read_lease(const FileHandle& file) {
  const json body = json_in(file);
  if (!body.is_object()) return std::nullopt;
  try {
    const json& pid = body.at("pid");
    return Lease{body.at("host"), body.at("machine"), pid.is_number_integer() ? pid.get<long>() : 0,
                 body.at("since"), body.at("heartbeat")};
  } catch (const json::exception&) {
    return std::nullopt;
  }
}

/// Somebody else's file, called as a lock is called. A lease may have been cut short by a crash.
bool is_foreign(const FileHandle& file) {
  constexpr std::string_view kBegin = "{\"heartbeat\":";  // as json orders the members
  std::string begin(kBegin.size(), '\0');
  begin.resize(file.read_at(begin.data(), begin.size(), 0));
  if (file.size() > kLeaseBytes) return true;
  if (begin.find_first_not_of('\0') == std::string::npos || read_lease(file)) return false;
  return !json_in(file).is_discarded() || begin != kBegin.substr(0, begin.size());
}

void write_lease(const FileHandle& file, const Lease& lease) {
  const std::string text = text_of(lease);
  const ssize_t written = ::pwrite(file.fd(), text.data(), text.size(), 0);
  if (written != static_cast<ssize_t>(text.size())) throw_errno("cannot write", file.path());
  // On a network file system other hosts see it only now.
  if (::fsync(file.fd()) != 0) throw_errno("cannot sync", file.path());
}

bool still_at_path(const FileHandle& file) {
  struct stat held {
  }, named{};
  return ::fstat(file.fd(), &held) == 0 && ::stat(file.path().c_str(), &named) == 0 &&
         held.st_ino == named.st_ino && held.st_dev == named.st_dev;
}

enum class FileLock { kTaken, kHeldByOther, kUnsupported };

FileLock lock_file(const FileHandle& file) {
  int result = 0;
  do result = ::flock(file.fd(), LOCK_EX | LOCK_NB);
  while (result != 0 && errno == EINTR);
  if (result == 0) return FileLock::kTaken;
  if (errno == EWOULDBLOCK) return FileLock::kHeldByOther;
  if (errno == ENOLCK || errno == ENOSYS || errno == EOPNOTSUPP || errno == EINVAL)
    return FileLock::kUnsupported;
  throw_errno("cannot lock", file.path());
}

/// Whether the holder named in a lease is known to be dead.
bool dead(const Lease& lease, const Lease& own, FileLock file_lock) {
  if (lease.machine != own.machine) return false;
  // One kernel: its file lock, now ours, would be held by a living holder.
  return file_lock == FileLock::kTaken ||
         (::kill(static_cast<pid_t>(lease.pid), 0) != 0 && errno == ESRCH);
}

std::string describe(const Lease& lease) {
  if (lease.host.empty()) return "another process";
  return "process " + std::to_string(lease.pid) + " on host " + lease.host + " (since " +
         utc_text(lease.since) + ")";
}

}  // namespace

ResultLock::ResultLock(const std::string& result, std::chrono::milliseconds wait,
                       std::chrono::milliseconds stale)
    : path_(result + ".lock"), stale_(stale), own_(own_lease()) {
  const auto deadline = Clock::now() + wait;
  bool told = false;
  while (!try_acquire()) {
    if (Clock::now() >= deadline)
      throw EnvironmentError(result + " is in use by " + describe(holder_) +
                             "; wait for it or stop it, or use another " +
                             spelled(Setting::kOutput) + " (lock file " + path_ + ")");
    if (!told)
      spdlog::info("{} is in use by {}; waiting up to {} s", result, describe(holder_),
                   std::chrono::duration_cast<std::chrono::seconds>(wait).count());
    told = true;
    std::this_thread::sleep_for(kPoll);
    require_not_stopped();
  }
}

bool ResultLock::try_acquire() {
  require_plain_or_nothing(path_);
  auto file = std::make_unique<FileHandle>(path_, O_RDWR | O_CREAT | O_NOFOLLOW);
  if (is_foreign(*file))
    throw UserError(path_ +
                    " is there already and is no lock of sentinelnn, which needs a file of this "
                    "name; remove it, or give another " +
                    spelled(Setting::kOutput));
  const FileLock file_lock = lock_file(*file);
  const auto lease = read_lease(*file);
  holder_ = lease.value_or(Lease{});
  if (file_lock == FileLock::kHeldByOther) return false;
  // The former holder may have removed the file between our open and our lock.
  if (!still_at_path(*file)) return false;
  if (lease && !dead(*lease, own_, file_lock) && !stands_still(*lease)) return false;
  own_.since = own_.heartbeat = unix_time();
  write_lease(*file, own_);
  file_ = std::move(file);
  const bool contended =
      file_lock == FileLock::kUnsupported || (lease && lease->machine != own_.machine);
  return !contended || confirm();
}

bool ResultLock::stands_still(const Lease& lease) {
  if (!seen_ || !seen_->same(lease)) {
    seen_ = lease;
    seen_since_ = Clock::now();
  }
  return Clock::now() - seen_since_ >= stale_;
}

bool ResultLock::confirm() {
  // Two hosts may have seen the same dead lease: the one that wrote last has it.
  std::this_thread::sleep_for(2 * kPoll);
  const FileHandle again(path_, O_RDONLY);
  const auto lease = read_lease(again);
  if (lease && lease->same_holder(own_)) return true;
  file_.reset();
  return false;
}

void ResultLock::heartbeat() {
  const std::lock_guard guard(mutex_);
  std::optional<Lease> lease;
  if (still_at_path(*file_)) {
    // Opened anew: network file systems promise fresh data only then.
    const FileHandle again(path_, O_RDONLY);
    lease = read_lease(again);
  }
  lost_ = lost_ || !lease || !lease->same_holder(own_);
  if (lost_)
    throw EnvironmentError("the lock " + path_ + " was lost" +
                           (lease ? " to " + describe(*lease) : " (file removed)") +
                           "; what is stored stays, run the command again to resume");
  own_.heartbeat = unix_time();
  try {
    write_lease(*file_, own_);
  } catch (const EnvironmentError& error) {
    // One missed beat is harmless, and a full disk shows itself where rows are written.
    spdlog::warn("{}", error.what());
  }
}

void ResultLock::release() {
  // Still locked while removed, so that nobody takes the lock on a file about to go.
  if (file_ && !lost_ && still_at_path(*file_)) ::unlink(path_.c_str());
  file_.reset();
}

}  // namespace sentinel::store
