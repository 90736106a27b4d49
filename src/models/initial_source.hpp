#pragma once
#include <optional>
#include <string>
#include <vector>

#include "models/layer_source.hpp"

namespace sentinel {

/// Fresh tensors: convolutions Kaiming normal (fan out, He et al., ICCV 2015), their biases 0, BN
/// weight 1 and bias 0. Tensor number n is drawn from stream n of Purpose::kInitialWeights.
class InitialSource : public LayerSource {
 public:
  /// Without a seed: shapes only, on the meta device.
  explicit InitialSource(std::optional<std::uint64_t> seed) : seed_(seed) {}
  Op conv(const ConvSpec& spec) override;
  Op batch_norm(const std::string& name, std::int64_t channels) override;
  Op activation(const std::string& name, ActivationKind kind, std::int64_t channels) override;
  Op linear(const LinearSpec& spec) override;
  void ignore(const std::string&) override {}
  void widths_differ(const std::string& name, std::int64_t a, std::int64_t b) override;
  /// Names of all tensors made, in PyTorch's order.
  const std::vector<std::string>& names() const { return names_; }

 private:
  enum class Draw { kNormal, kUniform };
  /// Standard deviation or half width `scale`.
  at::Tensor draw(const std::string& name, at::IntArrayRef shape, Draw draw, double scale);
  at::Tensor constant(const std::string& name, std::int64_t size, float value);

  std::optional<std::uint64_t> seed_;
  std::vector<std::string> names_;
};

}  // namespace sentinel
