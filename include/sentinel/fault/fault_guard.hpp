#pragma once
#include <vector>

#include "sentinel/fault/memory.hpp"

namespace sentinel {

/// Writes changed values into a network's tensors while it lives, and puts the others back exactly
/// when it goes. The network has the shapes of `memory`'s, in any memory format, on any device.
class FaultGuard {
 public:
  FaultGuard(Graph& graph, const Memory& memory, std::vector<ReadChange> changes);
  FaultGuard(const FaultGuard&) = delete;
  FaultGuard& operator=(const FaultGuard&) = delete;
  ~FaultGuard();

 private:
  void store(float ReadChange::*value) const;
  Graph& graph_;
  const Memory& memory_;
  std::vector<ReadChange> changes_;
};

}  // namespace sentinel
