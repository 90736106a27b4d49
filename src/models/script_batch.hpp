#pragma once
#include <torch/script.h>

#include <string>
#include <unordered_map>
#include <vector>

namespace sentinel {

/// How a value depends on the number of images.
enum class Dependence : std::uint8_t {
  kFree,    // the same for any number
  kNumber,  // it is that number
  kOther    // computed from it, or perhaps
};

/// A value of a walk. Tensors, lists, tuples and dictionaries have their dependence as objects.
struct WalkValue {
  c10::IValue value;
  Dependence batch = Dependence::kFree;
};
using WalkValues = std::vector<WalkValue>;

/// Follows in a walk what depends on the number of images. A tensor is known by its memory, a list,
/// tuple or dictionary as an object, so that all names of one share what is said of it. An operator
/// that reads a dependent value makes all dependent that it gives or changes; what is known better
/// is an exception of its own.
class BatchDependence {
 public:
  explicit BatchDependence(const at::Tensor& images);

  bool depends(const WalkValue& value) const { return of(value) != Dependence::kFree; }

  /// Whether an activation was changed by another of its names since this one was made.
  bool is_stale(const WalkValues& inputs) const;

  /// After an operator. Why it is refused: it made activations by an argument that depends on the
  /// number of images (as the first size of a view that is allowed), or some of another number.
  /// Empty where it is not.
  std::string executed(const torch::jit::Node& node, const WalkValues& inputs, WalkValues& outputs);

  /// A new list, tuple or dictionary of these.
  WalkValue joined(c10::IValue value, const WalkValues& items);
  /// An item that was taken out of a list, tuple or dictionary; all items.
  WalkValue element(const WalkValue& whole, std::size_t index, c10::IValue item);
  WalkValues elements(const WalkValue& whole, c10::ArrayRef<c10::IValue> items);

 private:
  using WeakTensor = c10::weak_intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl>;
  struct Memory {
    c10::weak_intrusive_ptr<c10::StorageImpl> held;  // its address is a name
    Dependence batch = Dependence::kFree;
    bool images = false;        // activations are in it
    std::uint64_t changes = 0;  // in place, of activations
  };
  struct Name {
    WeakTensor held;
    std::uint64_t changes = 0;  // of its memory when this tensor was made or changed
  };
  struct Container {
    c10::IValue held;
    Dependence all = Dependence::kFree;  // of its length and elements
    std::vector<Dependence> each = {};   // of numbers and texts; one that is missing is free

    Dependence at(std::size_t index) const;
  };

  Memory& memory(const at::Tensor& tensor);
  const Memory* find_memory(const c10::IValue& value) const;
  const Container* find_container(const c10::IValue& value) const;
  Dependence of(const WalkValue& value) const;
  Dependence of_object(const c10::IValue& value) const;
  bool holds_images(const c10::IValue& value) const;

  void mark(WalkValue& value, Dependence batch);
  bool mark_activations(const WalkValues& inputs, const WalkValues& changed,
                        const WalkValues& outputs);
  void remember_name(const at::Tensor& tensor, const Memory& memory);
  bool misuses(const std::string& name, const WalkValues& inputs) const;
  bool moves(const std::string& name, const WalkValues& inputs, WalkValue& output);
  bool moves_in_list(const std::string& name, const WalkValues& inputs, WalkValue& output);
  void slice(const WalkValues& inputs, WalkValue& output);
  void answer(const std::string& name, const WalkValues& inputs, WalkValue& output);

  std::int64_t images_;
  std::unordered_map<const void*, Memory> memories_;
  std::unordered_map<const void*, Name> names_;
  std::unordered_map<const void*, Container> containers_;
};

}  // namespace sentinel
