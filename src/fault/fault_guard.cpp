#include "sentinel/fault/fault_guard.hpp"

#include "fault/changes.hpp"

namespace sentinel {

FaultGuard::FaultGuard(Graph& graph, const Memory& memory, std::vector<ReadChange> changes)
    : graph_(graph), memory_(memory), changes_(std::move(changes)) {
  store(&ReadChange::faulty);
}

FaultGuard::~FaultGuard() {
  store(&ReadChange::clean);
}

void FaultGuard::store(float ReadChange::*value) const {
  for (const ChangeRange& own : by_tensor(changes_))
    write(values_of(graph_, memory_.tensors()[own.first->stored]), own, value);
}

}  // namespace sentinel
