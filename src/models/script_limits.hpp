#pragma once
#include <torch/script.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace sentinel {

/// While it lives, tensors on the CPU are refused beyond a size: a network of a few lines may ask
/// for any. DataError naming `source` from the allocation. One at a time.
class TensorLimit {
 public:
  TensorLimit(const std::string& source, std::uint64_t bytes);
  ~TensorLimit();
  TensorLimit(const TensorLimit&) = delete;
  TensorLimit& operator=(const TensorLimit&) = delete;
};

/// How long a walk may last and how much it may hold.
class WalkLimits {
 public:
  explicit WalkLimits(const std::string& source);

  /// Before every operator and every turn of a loop. DataError where there were too many, they take
  /// too long or too much memory; the stop that a signal asked for.
  void step();

  /// Why an operator is not to be called with these values: it would end the program, or take
  /// forever. Empty where it may.
  static std::string fault_of_call(const std::string& name, const std::vector<c10::IValue>& inputs);
  /// The same of what it gave.
  static std::string fault_of_result(const std::vector<c10::IValue>& outputs);

 private:
  const std::string& source_;
  std::uint64_t steps_ = 0, memory_ = 0;  // bytes of the process at the begin
  std::chrono::steady_clock::time_point begin_;
};

}  // namespace sentinel
