#include "sentinel/core/failure.hpp"

#include <new>

namespace sentinel {
namespace {

/// LibTorch has no type for it on the host, and this module does not know LibTorch.
bool lacks_memory(const std::exception& error) {
  if (dynamic_cast<const std::bad_alloc*>(&error)) return true;
  const std::string text = error.what();
  return text.find("DefaultCPUAllocator: ") != std::string::npos ||
         text.find("CUDA out of memory") != std::string::npos;
}

}  // namespace

Failure failure_of(const std::exception& error) {
  if (const auto* own = dynamic_cast<const Error*>(&error)) return {own->code(), own->what()};
  if (lacks_memory(error))
    return {ExitCode::kEnvironment,
            "out of memory; use fewer images, ranks or a smaller --cache-budget"};
  return {ExitCode::kBug, std::string("bug, please report: ") + error.what()};
}

}  // namespace sentinel
