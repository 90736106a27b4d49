#pragma once
#include <string>
#include <utility>

namespace sentinel {

/// Numbers the modules of a torch.nn.Sequential.
class Numbered {
 public:
  explicit Numbered(std::string prefix) : prefix_(std::move(prefix)) {}
  std::string name() const { return prefix_ + std::to_string(number_); }
  std::string next() { return prefix_ + std::to_string(number_++); }

 private:
  std::string prefix_;
  int number_ = 0;
};

}  // namespace sentinel
