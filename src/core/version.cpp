#include "sentinel/core/log.hpp"

namespace sentinel {

const char* version() {
  return SENTINEL_VERSION;
}

}  // namespace sentinel
