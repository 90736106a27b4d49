#include "sentinel/store/file_lock.hpp"

#include "sentinel/core/file.hpp"
#include "sentinel/store/result_store.hpp"
#include "store/background.hpp"
#include "store/lock.hpp"

namespace sentinel {

struct FileLock::State {
  explicit State(const std::string& path)
      : lock(link_target(path), StoreOptions().lock_wait),
        keeper([this] { lock.heartbeat(); }, StoreOptions().sync) {}

  store::ResultLock lock;
  store::Keeper keeper;
};

FileLock::FileLock(const std::string& path) {
  if (!path.empty()) state_ = std::make_unique<State>(path);
}

FileLock::~FileLock() = default;

}  // namespace sentinel
