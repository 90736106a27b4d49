#pragma once
#include <map>
#include <string>
#include <vector>

#include "sentinel/graph/graph.hpp"
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

/// Makes fp32 values of whatever floats a file holds, and says how these are stored: fp16, bf16 and
/// qint8 as they are, fp64 as fp32.
class Conversion {
 public:
  /// Contiguous; the tensor itself where it is such a one. DataError naming `source` where it is
  /// quantised in another way than qint8 with zero points 0, for the tensor or for its rows.
  at::Tensor to_float(const std::string& name, const at::Tensor& tensor, const std::string& source);
  /// The tensors that keep their format, by name.
  const std::map<std::string, Storage>& kept() const { return kept_; }
  /// "fp64"; empty where nothing was converted.
  std::string types() const { return converted_ > 0 ? "fp64" : ""; }
  /// Warns of what is converted and of words that are read as others. DataError naming `source`
  /// where a value became infinite.
  void log(const std::string& source) const;
  /// The sentence about converted tensors; empty where there are none.
  std::string warning(const std::string& source) const;

 private:
  at::Tensor read_quantised(const std::string& name, const at::Tensor& tensor,
                            const std::string& source);
  void count_changes(const std::string& name, const at::Tensor& before, const at::Tensor& after);

  std::map<std::string, Storage> kept_;
  std::string overflowing_, lowest_, rounded_scale_;  // the first tensors with such values
  std::int64_t tensors_ = 0, converted_ = 0;
  std::int64_t values_ = 0, rounded_ = 0, vanished_ = 0, overflowed_ = 0;  // of those converted
  std::int64_t lowest_words_ = 0, rounded_scales_ = 0;                     // of qint8
};

}  // namespace sentinel
