#pragma once
#include <torch/script.h>

#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

namespace sentinel {

/// How a value depends on the number of images.
enum class Dependence : std::uint8_t {
  kFree,    // the same for any number
  kNumber,  // it is that number
  kOther    // computed from it
};

/// The dependence of a list or tuple; all names of one list share it.
struct WalkParts {
  std::vector<Dependence> batch;  // of its elements; one that is missing is free
  bool images = false;            // one is computed from the images
};

/// A value of a walk.
struct WalkValue {
  c10::IValue value;
  Dependence batch = Dependence::kFree;  // for a list: of its length, or of all of it
  bool images = false;                   // a tensor computed from the images
  std::shared_ptr<WalkParts> parts = {};

  bool of_images() const { return images || (parts && parts->images); }
};
using WalkValues = std::vector<WalkValue>;

/// The numbers that operators gave in a walk, step by step. Of two walks with other numbers of
/// images it tells which depend on that.
class BatchTrail {
 public:
  /// The first walk, with so many images.
  explicit BatchTrail(std::int64_t images) : images_{images, images} {}

  /// From now on a second walk with another number is compared.
  void compare(std::int64_t images);
  bool comparing() const { return comparing_; }

  /// An operator that was executed; fills in `batch`, `images` and `parts` of its outputs. False where the
  /// walks took different ways.
  bool executed(const torch::jit::Node& node, const WalkValues& inputs, WalkValues& outputs);
  bool finished() const { return next_ == steps_.size(); }

  /// Whether an operator on activations has an argument that depends on the number of images,
  /// other than the number itself as the first size of a view.
  bool misuses(const std::string& name, const WalkValues& inputs) const;

  /// Whether the value depends on the number of images.
  bool depends(const WalkValue& value) const;

 private:
  using Numbers = std::vector<std::int64_t>;
  struct Step {
    const torch::jit::Node* node;
    std::vector<Numbers> outputs;
  };

  /// The dependence of an output of an operator that reads something that depends on the number.
  void inherit(const std::string& name, const WalkValues& inputs, WalkValue& output);
  void compare_output(const Numbers& before, const Numbers& now, WalkValue& output) const;

  std::int64_t images_[2];
  bool comparing_ = false;
  std::vector<Step> steps_;
  std::size_t next_ = 0;
  std::unordered_set<const void*> dependent_;  // tensors of no images, computed from their number
  std::vector<at::Tensor> kept_;               // a tensor's address is its name here
};

/// A list or tuple of these, and what it says of each.
WalkValue joined(c10::IValue value, const WalkValues& items);
/// Its elements.
WalkValues separated(const WalkValue& whole, c10::ArrayRef<c10::IValue> items);
WalkValue element_of(const WalkValue& whole, std::int64_t index, c10::IValue item);

}  // namespace sentinel
