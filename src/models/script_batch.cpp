#include "models/script_batch.hpp"

#include <algorithm>
#include <unordered_set>

#include "models/script_values.hpp"

namespace sentinel {
namespace {

using c10::IValue;

bool is_container(const IValue& value) {
  return value.isList() || value.isTuple() || value.isGenericDict();
}

/// The arguments that an operator changes in place.
WalkValues changed_by(const torch::jit::Node& node, const WalkValues& inputs) {
  WalkValues changed;
  const auto& arguments = node.schema().arguments();
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const c10::AliasInfo* alias = arguments[i].alias_info();
    if (alias != nullptr && alias->isWrite()) changed.push_back(inputs.at(i));
  }
  return changed;
}

/// Operators that give their one argument as another type.
bool keeps_number(const std::string& name) {
  return is_one_of(name, {"NumToTensor", "Int", "item", "IntImplicit", "ScalarImplicit"});
}

}  // namespace

BatchDependence::BatchDependence(const at::Tensor& images) : images_(images.size(0)) {
  memory(images).images = true;
}

Dependence BatchDependence::Container::at(std::size_t index) const {
  return std::max(all, index < each.size() ? each[index] : Dependence::kFree);
}

// ---- what is known ----

BatchDependence::Memory& BatchDependence::memory(const at::Tensor& tensor) {
  return memories_.try_emplace(memory_key(tensor), Memory{tensor.storage().getWeakStorageImpl()})
      .first->second;
}

const BatchDependence::Memory* BatchDependence::find_memory(const IValue& value) const {
  if (!has_memory(value)) return nullptr;
  const auto found = memories_.find(memory_key(value.toTensor()));
  return found == memories_.end() ? nullptr : &found->second;
}

const BatchDependence::Container* BatchDependence::find_container(const IValue& value) const {
  if (!is_container(value)) return nullptr;
  const auto found = containers_.find(value.internalToPointer());
  return found == containers_.end() ? nullptr : &found->second;
}

Dependence BatchDependence::of_object(const IValue& value) const {
  if (const Memory* memory = find_memory(value)) return memory->batch;
  const Container* container = find_container(value);
  if (container == nullptr) return Dependence::kFree;
  Dependence most = container->all;
  for (const Dependence one : container->each) most = std::max(most, one);
  return most;
}

Dependence BatchDependence::of(const WalkValue& value) const {
  Dependence most = value.batch;
  visit_all(value.value, [&](const IValue& one) { most = std::max(most, of_object(one)); });
  return most;
}

bool BatchDependence::holds_images(const IValue& value) const {
  bool found = false;
  visit_all(value, [&](const IValue& one) {
    const Memory* memory = find_memory(one);
    found = found || (memory != nullptr && memory->images);
  });
  return found;
}

void BatchDependence::mark(WalkValue& value, Dependence batch) {
  if (batch == Dependence::kFree) return;
  value.batch = std::max(value.batch, batch);
  if (has_memory(value.value)) {
    Dependence& known = memory(value.value.toTensor()).batch;
    known = std::max(known, batch);
  } else if (is_container(value.value)) {
    Container& container = containers_[value.value.internalToPointer()];
    container.held = value.value;
    container.all = std::max(container.all, batch);
  }
}

// ---- activations ----

bool BatchDependence::is_stale(const WalkValues& inputs) const {
  bool stale = false;
  for (const WalkValue& input : inputs)
    visit_all(input.value, [&](const IValue& one) {
      const Memory* memory = find_memory(one);
      if (memory == nullptr || !memory->images) return;
      const auto name = names_.find(one.toTensor().unsafeGetTensorImpl());
      stale = stale || memory->changes != (name == names_.end() ? 0 : name->second.changes);
    });
  return stale;
}

void BatchDependence::remember_name(const at::Tensor& tensor, const Memory& memory) {
  names_.insert_or_assign(tensor.unsafeGetTensorImpl(),
                          Name{WeakTensor(tensor.getIntrusivePtr()), memory.changes});
}

/// Marks all that an operator on activations gives or changes. A tensor that it only hands on stays
/// as it is. False where a size of one may hide the number of images: its first is another.
bool BatchDependence::mark_activations(const WalkValues& inputs, const WalkValues& changed,
                                       const WalkValues& outputs) {
  bool whole = true;
  // A batch of one, where squeeze() takes the size away, is asked for its logits alone.
  const auto look = [&](const at::Tensor& made) {
    whole = whole && (images_ == 1 || made.dim() == 0 || made.size(0) == images_);
  };
  for (const WalkValue& value : changed) {
    if (!has_memory(value.value)) continue;
    look(value.value.toTensor());
    Memory& changing = memory(value.value.toTensor());
    changing.images = true;
    ++changing.changes;
    remember_name(value.value.toTensor(), changing);
  }
  std::unordered_set<const void*> before;
  for (const WalkValue& input : inputs)
    visit_all(input.value, [&](const IValue& one) {
      if (one.isTensor()) before.insert(one.toTensor().unsafeGetTensorImpl());
    });
  for (const WalkValue& output : outputs)
    visit_all(output.value, [&](const IValue& one) {
      if (!has_memory(one) || before.count(one.toTensor().unsafeGetTensorImpl()) > 0) return;
      look(one.toTensor());
      Memory& made = memory(one.toTensor());
      made.images = true;
      remember_name(one.toTensor(), made);
    });
  return whole;
}

bool BatchDependence::misuses(const std::string& name, const WalkValues& inputs) const {
  const bool shapes = is_one_of(name, {"view", "reshape", "_unsafe_view", "_reshape_alias"});
  for (const WalkValue& value : inputs) {
    if (!depends(value)) continue;
    const Container* list = find_container(value.value);
    if (!shapes || list == nullptr || list->all != Dependence::kFree) return true;
    const auto dependent = [](Dependence batch) { return batch != Dependence::kFree; };
    const std::vector<Dependence>& each = list->each;
    // [N, F]: of two sizes the second cannot be another than that which fits.
    const bool rest = each.size() > 2 && std::any_of(each.begin() + 1, each.end(), dependent);
    if (each.empty() || each[0] != Dependence::kNumber || rest) return true;
  }
  return false;
}

// ---- operators ----

std::string BatchDependence::executed(const torch::jit::Node& node, const WalkValues& inputs,
                                      WalkValues& outputs) {
  const std::string name = node.kind().toUnqualString();
  Dependence most = Dependence::kFree;
  bool reads = false;
  for (const WalkValue& input : inputs) {
    most = std::max(most, of(input));
    reads = reads || holds_images(input.value);
  }
  if (most == Dependence::kFree && !reads) return "";
  WalkValues changed = changed_by(node, inputs);
  if (reads && !mark_activations(inputs, changed, outputs))
    return "makes a tensor whose first size is not the number of images";
  const auto active = [&](const WalkValue& value) { return holds_images(value.value); };
  const bool makes = std::any_of(outputs.begin(), outputs.end(), active) ||
                     std::any_of(changed.begin(), changed.end(), active);
  if (makes && misuses(name, inputs))
    return "has an argument that depends on the number of images, which is not supported but as "
           "the first size of a view";
  if (outputs.size() == 1 && moves(name, inputs, outputs[0])) return "";
  // A number is never None.
  if (is_one_of(name, {"__is__", "__isnot__"}) && most == Dependence::kNumber &&
      (inputs[0].value.isNone() || inputs[1].value.isNone()))
    return "";
  if (most != Dependence::kFree)
    for (WalkValue& value : changed) mark(value, Dependence::kOther);
  for (WalkValue& output : outputs) {
    const bool handed_on = most == Dependence::kFree && holds_tensor(output.value);
    if (active(output) || handed_on) continue;
    if (most == Dependence::kFree)
      answer(name, inputs, output);
    else
      mark(output, keeps_number(name) ? most : Dependence::kOther);
  }
  return "";
}

/// An activation is asked about itself. Its first size is the number of images.
void BatchDependence::answer(const std::string& name, const WalkValues& inputs, WalkValue& output) {
  if (is_one_of(name, {"dim", "dtype", "device", "layout", "is_floating_point", "is_cuda",
                       "requires_grad"}))
    return;
  const bool compares = is_one_of(name, {"__is__", "__isnot__"});
  if (compares && (inputs[0].value.isNone() || inputs[1].value.isNone())) return;
  if (!is_one_of(name, {"size", "shape", "len"})) return mark(output, Dependence::kOther);
  if (output.value.isList()) {
    containers_.insert_or_assign(output.value.internalToPointer(),
                                 Container{output.value, Dependence::kFree, {Dependence::kNumber}});
    return;
  }
  const std::int64_t dim = inputs.size() > 1 ? inputs[1].value.toInt() : 0;
  if (dim == 0 || dim == -inputs[0].value.toTensor().dim()) output.batch = Dependence::kNumber;
}

/// Operators that take elements out of a container or put them in, or ask it about itself, by
/// arguments that depend on nothing; false for others.
bool BatchDependence::moves(const std::string& name, const WalkValues& inputs, WalkValue& output) {
  const WalkValue& whole = inputs[0];
  const bool plain = std::none_of(inputs.begin() + 1, inputs.end(),
                                  [&](const WalkValue& value) { return depends(value); });
  if (!is_container(whole.value) || whole.batch != Dependence::kFree) return false;
  const Container* known = find_container(whole.value);
  const bool keyed =
      whole.value.isGenericDict() && is_one_of(name, {"keys", "__contains__", "get"});
  if (name == "len" || (keyed && plain)) {
    if (known != nullptr) mark(output, known->all);
    return true;
  }
  return whole.value.isList() && (plain || name == "append") && moves_in_list(name, inputs, output);
}

bool BatchDependence::moves_in_list(const std::string& name, const WalkValues& inputs,
                                    WalkValue& output) {
  const auto size = static_cast<std::int64_t>(inputs[0].value.toListRef().size());
  const Container* known = find_container(inputs[0].value);
  if (name == "__getitem__") {
    const std::int64_t index = inputs[1].value.toInt();
    if (known != nullptr)
      mark(output, known->at(static_cast<std::size_t>(index < 0 ? index + size : index)));
    return true;
  }
  if (is_one_of(name, {"list", "copy"}) && inputs.size() == 1) {
    if (known != nullptr)
      containers_.insert_or_assign(output.value.internalToPointer(),
                                   Container{output.value, known->all, known->each});
    return true;
  }
  if (name == "slice" && inputs.size() == 4) {
    slice(inputs, output);
    return true;
  }
  if (name != "append") return false;
  if (known == nullptr && inputs[1].batch == Dependence::kFree) return true;
  Container& list = containers_[inputs[0].value.internalToPointer()];
  list.held = inputs[0].value;
  list.each.resize(static_cast<std::size_t>(size), Dependence::kFree);
  list.each.back() = inputs[1].batch;
  return true;
}

/// x.size()[2:]
void BatchDependence::slice(const WalkValues& inputs, WalkValue& output) {
  const Container* known = find_container(inputs[0].value);
  if (known == nullptr) return;
  const auto size = static_cast<std::int64_t>(inputs[0].value.toListRef().size());
  const auto bound = [&](const IValue& value, std::int64_t otherwise) {
    if (!value.isInt()) return otherwise;
    const std::int64_t at = value.toInt() < 0 ? value.toInt() + size : value.toInt();
    return std::clamp<std::int64_t>(at, 0, size);
  };
  const std::int64_t step = inputs[3].value.isInt() ? inputs[3].value.toInt() : 1;
  if (step <= 0) return mark(output, Dependence::kOther);
  Container part{output.value, known->all};
  for (std::int64_t i = bound(inputs[1].value, 0); i < bound(inputs[2].value, size);
       i += std::min(step, size))
    part.each.push_back(known->at(static_cast<std::size_t>(i)));
  containers_.insert_or_assign(output.value.internalToPointer(), std::move(part));
}

// ---- containers ----

WalkValue BatchDependence::joined(IValue value, const WalkValues& items) {
  WalkValue whole{std::move(value)};
  Container made{whole.value};
  for (const WalkValue& item : items) made.each.push_back(item.batch);
  const auto dependent = [](Dependence batch) { return batch != Dependence::kFree; };
  if (std::none_of(made.each.begin(), made.each.end(), dependent)) return whole;
  if (whole.value.isGenericDict()) made.all = Dependence::kOther;
  containers_.insert_or_assign(whole.value.internalToPointer(), std::move(made));
  return whole;
}

WalkValue BatchDependence::element(const WalkValue& whole, std::size_t index, IValue item) {
  WalkValue value{std::move(item)};
  const Container* known = find_container(whole.value);
  mark(value, std::max(whole.batch, known == nullptr ? Dependence::kFree : known->at(index)));
  return value;
}

WalkValues BatchDependence::elements(const WalkValue& whole, c10::ArrayRef<IValue> items) {
  WalkValues values;
  for (std::size_t i = 0; i < items.size(); ++i) values.push_back(element(whole, i, items[i]));
  return values;
}

}  // namespace sentinel
