#include "sentinel/core/failure.hpp"

#include <filesystem>
#include <new>
#include <string_view>

#include "sentinel/core/setting.hpp"

namespace sentinel {
namespace {

bool has(const std::exception& error, std::string_view part) {
  return std::string_view(error.what()).find(part) != std::string_view::npos;
}

/// LibTorch has no type for it, and this module does not know LibTorch.
bool lacks_memory(const std::exception& error) {
  return dynamic_cast<const std::bad_alloc*>(&error) || has(error, "DefaultCPUAllocator: ");
}

/// "CUDA out of memory. Tried …", "HIP out of memory", "CUDA error: out of memory",
/// "CUBLAS_STATUS_ALLOC_FAILED".
bool lacks_device_memory(const std::exception& error) {
  return has(error, "out of memory") || has(error, "ALLOC_FAILED");
}

}  // namespace

Failure failure_of(const std::exception& error) {
  if (const auto* own = dynamic_cast<const Error*>(&error)) return {own->code(), own->what()};
  if (lacks_memory(error))
    return {ExitCode::kEnvironment, "out of memory; use fewer images or ranks, a smaller " +
                                        spelled(Setting::kBatchSize) + " or " +
                                        spelled(Setting::kCacheBudget)};
  if (lacks_device_memory(error)) {
    const std::string text = error.what();
    return {ExitCode::kEnvironment,
            "out of device memory; use a smaller " + spelled(Setting::kBatchSize) + ", " +
                spelled(Setting::kTrialsAtOnce) + " or " + spelled(Setting::kCacheBudget) + ": " +
                text.substr(0, text.find('\n'))};
  }
  if (has(error, "cpuinfo"))  // LibTorch reads it before anything else
    return {ExitCode::kEnvironment,
            "LibTorch cannot learn what the processor is; it needs /proc (and /sys), which must be "
            "mounted here"};
  // A name that is too long, a folder that may not be looked into, a disk that fails.
  if (const auto* files = dynamic_cast<const std::filesystem::filesystem_error*>(&error))
    return {ExitCode::kEnvironment,
            "cannot use " + files->path1().string() + ": " + files->code().message()};
  return {ExitCode::kBug, std::string("bug, please report: ") + error.what()};
}

}  // namespace sentinel
