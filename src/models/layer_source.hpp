#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include "sentinel/graph/graph.hpp"

namespace sentinel {

/// {height, width}; one number stands for both.
struct Extent {
  std::int64_t height, width;
  Extent(std::int64_t both) : height(both), width(both) {}
  Extent(Pair pair) : height(pair[0]), width(pair[1]) {}
  operator Pair() const { return {height, width}; }
};

/// What a builder knows of a convolution.
struct ConvSpec {
  std::string name;
  std::string norm;  // the BatchNorm behind it; tells the width of the seed tool's hardened files
  std::int64_t in = 0;   // channels it gets
  std::int64_t out = 0;  // default width; tensors of a checkpoint may be narrower
  Extent kernel = 3, stride = 1;
  bool bias = false;
  std::int64_t groups = 1;  // kDepthwise: one for each channel it gets, which `out` is too
  std::optional<Extent> padding = {};  // absent: centred, kernel / 2
  Extent dilation = 1;
  bool classifier = false;  // `out` is the class count
  static constexpr std::int64_t kDepthwise = 0;
};

/// A 1 x 1 convolution without bias; names are to be set.
inline ConvSpec pointwise(std::int64_t out) {
  ConvSpec spec;
  spec.out = out;
  spec.kernel = 1;
  return spec;
}
/// One filter for each channel, without bias; names are to be set.
inline ConvSpec depthwise(std::int64_t kernel, std::int64_t stride) {
  ConvSpec spec;
  spec.kernel = kernel;
  spec.stride = stride;
  spec.groups = ConvSpec::kDepthwise;
  return spec;
}

inline Pair padding_of(const ConvSpec& spec) {
  return spec.padding.value_or(Pair{spec.kernel.height / 2, spec.kernel.width / 2});
}

enum class LinearRole { kHidden, kClassifier };  // the width of a classifier is the class count
enum class LinearInit { kUniform, kNormal };     // PyTorch's default, or N(0, 0.01) with bias 0

struct LinearSpec {
  std::string name;
  std::int64_t in = 0, out = 0;
  LinearRole role = LinearRole::kHidden;
  LinearInit init = LinearInit::kUniform;
  bool bias = true;
};

/// Where a family's builder gets its layers from: a checkpoint or an initialisation.
class LayerSource {
 public:
  virtual ~LayerSource() = default;
  virtual Op conv(const ConvSpec& spec) = 0;  // Conv or DuplicatedConv
  virtual Op batch_norm(const std::string& name, std::int64_t channels) = 0;
  /// Activation or BoundedActivation.
  virtual Op activation(const std::string& name, ActivationKind kind, std::int64_t channels) = 0;
  virtual Op linear(const LinearSpec& spec) = 0;
  /// Entries of a checkpoint that evaluation does not need, by the beginning of their names.
  virtual void ignore(const std::string& prefix) = 0;
  /// Two branches of a sum have different widths.
  virtual void widths_differ(const std::string& name, std::int64_t a, std::int64_t b) = 0;
};

}  // namespace sentinel
