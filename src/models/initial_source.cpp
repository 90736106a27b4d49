#include "models/initial_source.hpp"

#include <cmath>

#include "sentinel/core/error.hpp"
#include "sentinel/core/rng.hpp"

namespace sentinel {

at::Tensor InitialSource::draw(const std::string& name, at::IntArrayRef shape, Draw draw,
                               double scale) {
  names_.push_back(name);
  if (!seed_) return at::empty(shape, at::TensorOptions(at::kMeta).dtype(at::kFloat));
  Rng rng({*seed_, 0, names_.size() - 1, Purpose::kInitialWeights});
  at::Tensor tensor = at::empty(shape, at::kFloat);
  float* values = tensor.data_ptr<float>();
  for (std::int64_t i = 0; i < tensor.numel(); ++i) {
    const double x = draw == Draw::kNormal ? rng.normal() : 2 * rng.uniform() - 1;
    values[i] = static_cast<float>(scale * x);
  }
  return tensor;
}

at::Tensor InitialSource::constant(const std::string& name, std::int64_t size, float value) {
  names_.push_back(name);
  return at::full({size}, value, at::kFloat);
}

Op InitialSource::conv(const ConvSpec& spec) {
  Conv op;
  op.groups = spec.groups;
  const double fan_out = static_cast<double>(spec.out * spec.kernel.height * spec.kernel.width);
  op.weight = draw(spec.name + ".weight",
                   {spec.out, spec.in / spec.groups, spec.kernel.height, spec.kernel.width},
                   Draw::kNormal, std::sqrt(2 / fan_out));
  if (spec.bias) op.bias = constant(spec.name + ".bias", spec.out, 0);
  op.stride = spec.stride;
  op.dilation = spec.dilation;
  op.padding = padding_of(spec);
  return op;
}

Op InitialSource::batch_norm(const std::string& name, std::int64_t channels) {
  BatchNorm op;
  op.weight = constant(name + ".weight", channels, 1);
  op.bias = constant(name + ".bias", channels, 0);
  op.mean = constant(name + ".running_mean", channels, 0);
  op.var = constant(name + ".running_var", channels, 1);
  names_.push_back(name + ".num_batches_tracked");
  op.batches_tracked = at::zeros({}, at::kLong);
  return op;
}

Op InitialSource::activation(const std::string&, ActivationKind kind, std::int64_t) {
  return Activation{kind};
}

Op InitialSource::linear(const LinearSpec& spec) {
  const std::string weight = spec.name + ".weight", bias = spec.name + ".bias";
  Linear op;
  switch (spec.init) {
    case LinearInit::kNormal:
      op.weight = draw(weight, {spec.out, spec.in}, Draw::kNormal, 0.01);
      op.bias = constant(bias, spec.out, 0);
      break;
    case LinearInit::kUniform: {
      const double half_width = 1 / std::sqrt(static_cast<double>(spec.in));
      op.weight = draw(weight, {spec.out, spec.in}, Draw::kUniform, half_width);
      op.bias = draw(bias, {spec.out}, Draw::kUniform, half_width);
      break;
    }
  }
  return op;
}

void InitialSource::widths_differ(const std::string& name, std::int64_t, std::int64_t) {
  throw Bug("the default widths of '" + name + "' do not fit together");
}

}  // namespace sentinel
