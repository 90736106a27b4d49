#include <algorithm>

#include "sentinel/io/checkpoint_file.hpp"

namespace sentinel {

const at::Tensor* StateDict::find(const std::string& name) const {
  const auto found = std::find_if(entries_.begin(), entries_.end(),
                                  [&](const auto& entry) { return entry.first == name; });
  return found == entries_.end() ? nullptr : &found->second;
}

void StateDict::set(const std::string& name, at::Tensor tensor) {
  if (const at::Tensor* known = find(name))
    *const_cast<at::Tensor*>(known) = std::move(tensor);
  else
    entries_.emplace_back(name, std::move(tensor));
}

}  // namespace sentinel
