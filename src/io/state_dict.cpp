#include "sentinel/io/checkpoint_file.hpp"

namespace sentinel {

const at::Tensor* StateDict::find(const std::string& name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &entries_[found->second].second;
}

void StateDict::set(const std::string& name, at::Tensor tensor) {
  const auto [place, added] = index_.emplace(name, entries_.size());
  if (added)
    entries_.emplace_back(name, std::move(tensor));
  else
    entries_[place->second].second = std::move(tensor);
}

}  // namespace sentinel
