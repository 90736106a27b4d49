#pragma once
#include <string>
#include <vector>

#include "transform/train_state.hpp"

namespace sentinel {

/// Adam (Kingma, Ba, arXiv:1412.6980) as PyTorch's, weight decay added to the gradient. Betas 0.9,
/// 0.999, eps 1e-8.
class Adam {
 public:
  /// The tensors must outlive it.
  explicit Adam(LiveTensors parameters);
  /// Its own tensors, behind those listed already.
  void list(LiveTensors& tensors);
  /// Uses up the gradients.
  void step(double learning_rate, double weight_decay);
  /// As before the first step.
  void reset();

 private:
  void step(std::size_t i, double learning_rate, double weight_decay);
  LiveTensors parameters_;
  std::vector<at::Tensor> means_, squares_;  // of the gradients
  at::Tensor steps_;                         // [] i64
};

}  // namespace sentinel
