#pragma once
#include <string>
#include <vector>

#include "sentinel/io/checkpoint_file.hpp"

namespace sentinel {

/// Weights that a file holds in two parts, put together as PyTorch does: name_orig * name_mask
/// (torch.nn.utils.prune), and weight normalisation (name_g and name_v, or
/// parametrizations.name.original0 and original1). Other entries stay as they are.
struct WholeWeights {
  StateDict tensors;
  std::vector<std::string> masked, normalised;  // names of what was put together
};
WholeWeights with_whole_weights(const StateDict& tensors);

/// Advice about entries that hold weights in yet another way; empty where there are none.
std::string advice_on_parts(const StateDict& tensors);

/// Makes fp32 of whatever floats a file holds, and counts what that changes.
class Conversion {
 public:
  /// Contiguous; the tensor itself where it is such a one.
  at::Tensor to_float(const std::string& name, const at::Tensor& tensor);
  /// "bf16", or "bf16, fp64"; empty where all were fp32.
  std::string types() const;
  /// Says what was converted and what faults are injected into. DataError naming `source` where a
  /// value became infinite.
  std::string describe(const std::string& source) const;

 private:
  std::vector<std::string> types_;
  std::string overflowing_;  // the first tensor with such values
  std::int64_t tensors_ = 0, converted_ = 0;
  std::int64_t values_ = 0, rounded_ = 0, vanished_ = 0, overflowed_ = 0;  // of those converted
};

}  // namespace sentinel
