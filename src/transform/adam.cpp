#include "transform/adam.hpp"

#include <ATen/core/grad_mode.h>

#include <cmath>

namespace sentinel {
namespace {

constexpr double kMeans = 0.9, kSquares = 0.999, kEpsilon = 1e-8;

}  // namespace

Adam::Adam(LiveTensors parameters)
    : parameters_(std::move(parameters)), steps_(at::zeros({}, at::kLong)) {
  for (const auto& [name, tensor] : parameters_) {
    means_.push_back(at::zeros_like(*tensor).detach());
    squares_.push_back(at::zeros_like(*tensor).detach());
  }
}

void Adam::list(LiveTensors& tensors) {
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    tensors.push_back({"mean/" + parameters_[i].name, &means_[i]});
    tensors.push_back({"square/" + parameters_[i].name, &squares_[i]});
  }
  tensors.push_back({"steps/" + parameters_.front().name, &steps_});
}

void Adam::step(double learning_rate, double weight_decay) {
  const at::NoGradGuard no_grad;
  steps_.add_(1);
  for (std::size_t i = 0; i < parameters_.size(); ++i) step(i, learning_rate, weight_decay);
}

void Adam::step(std::size_t i, double learning_rate, double weight_decay) {
  at::Tensor& parameter = *parameters_[i].tensor;
  at::Tensor& gradient = parameter.mutable_grad();
  if (!gradient.defined()) return;
  const at::Tensor slope = gradient.add(parameter, weight_decay);
  means_[i].mul_(kMeans).add_(slope, 1 - kMeans);
  squares_[i].mul_(kSquares).addcmul_(slope, slope, 1 - kSquares);
  const auto steps = static_cast<double>(steps_.item<std::int64_t>());
  const double unbiased = 1 - std::pow(kMeans, steps),
               spread = std::sqrt(1 - std::pow(kSquares, steps));
  parameter.addcdiv_(means_[i], squares_[i].sqrt().div_(spread).add_(kEpsilon),
                     -learning_rate / unbiased);
  gradient.reset();
}

void Adam::reset() {
  for (at::Tensor& tensor : means_) tensor.zero_();
  for (at::Tensor& tensor : squares_) tensor.zero_();
  steps_.zero_();
}

}  // namespace sentinel
