#pragma once
#include <map>
#include <set>
#include <string>
#include <vector>

#include "models/layer_source.hpp"
#include "sentinel/io/checkpoint_file.hpp"

namespace sentinel {

/// What a checkpoint's record says of its protected layers; tensors alone do not tell.
struct Protection {
  struct Duplication {
    Correction correction = Correction::kRange;
    RowLayout layout = RowLayout::kOwn;
  };
  std::map<std::string, Duplication> convs;
  bool restricted = false;  // every ReLU has a bound; otherwise none has
  bool two_sided = false;   // other activations have a lower bound too
  Clipping clipping = Clipping::kRanger;
  bool weights_bounded = false;  // every convolution and linear layer has weight bounds, or none
};

/// Layers around the tensors of a state_dict. Never throws for wrong tensors: it notes the problem
/// and hands out a tensor of the expected shape, so that one error can list everything.
class CheckpointSource : public LayerSource {
 public:
  /// `classes` < 0: any number will do.
  CheckpointSource(const StateDict& tensors, const Protection* protection, std::int64_t classes)
      : tensors_(tensors), protection_(protection), classes_(classes) {}
  Op conv(const ConvSpec& spec) override;
  Op batch_norm(const std::string& name, std::int64_t channels) override;
  Op activation(const std::string& name, ActivationKind kind, std::int64_t channels) override;
  Op linear(const LinearSpec& spec) override;
  void ignore(const std::string& prefix) override;
  void widths_differ(const std::string& name, std::int64_t a, std::int64_t b) override;

  /// Whether an entry was named as one that is not needed.
  bool ignores(const std::string& name) const { return ignored_.count(name) > 0; }
  /// Marks what nobody asked for as unexpected; call after building.
  void mark_unexpected();
  bool fits() const { return missing_.empty() && unexpected_.empty() && wrong_.empty(); }
  const std::vector<std::string>& missing() const { return missing_; }
  /// "3 missing entries (a, b, c); 1 entry with a wrong shape ..."; empty where it fits.
  std::string problems() const;
  /// The problem, where it is only that the last layer has another number of classes.
  bool only_classes_differ() const {
    return classes_differ_ && missing_.size() + unexpected_.size() + wrong_.size() == 1;
  }
  std::string first_wrong() const { return wrong_.front(); }

 private:
  static constexpr std::int64_t kAny = -1;
  using Shape = std::vector<std::int64_t>;  // kAny where any size >= 1 will do

  const at::Tensor* look(const std::string& name);
  bool matches(const std::string& name, const at::Tensor& tensor, const Shape& expected);
  /// f32, contiguous, sharing nothing with the state_dict; a stand-in of zeros where there is
  /// a problem.
  at::Tensor take(const std::string& name, const Shape& expected, std::int64_t fallback = 1);
  /// Undefined where absent.
  at::Tensor take_optional(const std::string& name, const Shape& expected);
  /// Of the layer with this weight, in the file's row order.
  WeightBounds take_bounds(const std::string& name, const at::Tensor& weight);
  std::vector<std::int64_t> take_duplicated(const std::string& name, std::int64_t rows);
  Op conv_or_duplicated(const ConvSpec& spec);
  void check_classes(const std::string& layer, std::int64_t found);
  Op duplicate(const ConvSpec& spec, Conv conv, std::vector<std::int64_t> duplicated);
  /// Number of copies in a file of the seed tool, which does not list them; 0 if it is none.
  std::int64_t seed_copies(const ConvSpec& spec, const at::Tensor& weight);

  const StateDict& tensors_;
  const Protection* protection_;
  std::int64_t classes_;
  std::set<std::string> used_, ignored_;
  std::vector<std::string> missing_, unexpected_, wrong_;
  bool classes_differ_ = false;
};

/// Rows of a duplicated convolution: from the file's order to ours and back.
at::Tensor rows_from_file(const at::Tensor& rows, std::int64_t copies, RowLayout layout);
at::Tensor rows_to_file(const at::Tensor& rows, std::int64_t copies, RowLayout layout);

/// Entries that are not PyTorch's: "<conv>.duplicated", "<relu>.bound", "<layer>.weight_low" ...
bool is_additional(const std::string& name);

}  // namespace sentinel
