#include "models/script_batch.hpp"

#include <algorithm>
#include <cstring>

namespace sentinel {
namespace {

using c10::IValue;

bool is_one_of(const std::string& name, std::initializer_list<const char*> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::int64_t number_of(const IValue& value) {
  if (value.isInt()) return value.toInt();
  if (value.isBool()) return value.toBool();
  if (value.isString())
    return static_cast<std::int64_t>(std::hash<std::string>()(value.toStringRef()));
  if (!value.isDouble()) return 0;
  const double number = value.toDouble();
  std::int64_t bits = 0;
  std::memcpy(&bits, &number, sizeof bits);
  return bits;
}

/// A list's elements, or the one number; of tensors only how many there are.
std::vector<std::int64_t> numbers_in(const IValue& value) {
  std::vector<std::int64_t> numbers;
  if (!value.isList()) return {number_of(value)};
  for (const IValue& item : value.toListRef()) numbers.push_back(number_of(item));
  return numbers;
}

bool holds_tensors(const IValue& list) {
  const auto& items = list.toListRef();
  return std::any_of(items.begin(), items.end(),
                     [](const IValue& item) { return item.isTensor() || item.isList(); });
}

const void* key(const WalkValue& value) {
  return value.value.toTensor().unsafeGetTensorImpl();
}

bool is_tensor(const WalkValue& value) {
  return value.value.isTensor() && value.value.toTensor().defined();
}

Dependence most(const WalkValue& value) {
  Dependence found = value.batch;
  if (value.parts)
    for (const Dependence one : value.parts->batch) found = std::max(found, one);
  return found;
}

Dependence element(const WalkValue& whole, std::int64_t index) {
  if (whole.batch != Dependence::kFree || !whole.parts) return whole.batch;
  const auto size = static_cast<std::int64_t>(whole.parts->batch.size());
  return index < size ? whole.parts->batch[static_cast<std::size_t>(index)] : Dependence::kFree;
}

std::int64_t size_of(const IValue& list) {
  return static_cast<std::int64_t>(list.toListRef().size());
}

/// x.size()[2:]
bool slice(const WalkValues& in, WalkValue& out) {
  const std::int64_t size = size_of(in[0].value);
  const auto bound = [&](const IValue& value, std::int64_t otherwise) {
    if (!value.isInt()) return otherwise;
    const std::int64_t at = value.toInt() < 0 ? value.toInt() + size : value.toInt();
    return std::clamp<std::int64_t>(at, 0, size);
  };
  const std::int64_t step = in[3].value.isInt() ? in[3].value.toInt() : 1;
  if (step <= 0) return false;
  out.parts = std::make_shared<WalkParts>();
  out.parts->images = in[0].of_images();
  for (std::int64_t i = bound(in[1].value, 0); i < bound(in[2].value, size); i += step)
    out.parts->batch.push_back(element(in[0], i));
  return true;
}

/// Operators that take elements out of a list or put them in; false for others.
bool moves(const std::string& name, const WalkValues& in, WalkValues& out) {
  if (in.empty() || !in[0].value.isList()) return false;
  const bool plain = std::all_of(in.begin() + 1, in.end(), [](const WalkValue& value) {
    return most(value) == Dependence::kFree;
  });
  if (name == "__getitem__" && plain) {
    const std::int64_t index = in[1].value.toInt();
    out[0].batch = element(in[0], index < 0 ? index + size_of(in[0].value) : index);
    return true;
  }
  if (name == "slice" && plain && in.size() == 4 && in[0].batch == Dependence::kFree)
    return slice(in, out[0]);
  const bool changes =
      is_one_of(name, {"append", "insert", "extend", "_set_item", "pop", "Delete", "add_"});
  if (!changes || !in[0].parts) return false;
  WalkParts& parts = *in[0].parts;
  const std::int64_t size = size_of(in[0].value);
  for (const WalkValue& value : in) parts.images = parts.images || value.of_images();
  if (name == "append") {
    parts.batch.resize(static_cast<std::size_t>(size - 1), Dependence::kFree);
    parts.batch.push_back(most(in[1]));
  } else {
    const bool free = plain && most(in[0]) == Dependence::kFree;
    parts.batch.assign(static_cast<std::size_t>(size),
                       free ? Dependence::kFree : Dependence::kOther);
  }
  for (WalkValue& output : out) {
    if (output.value.isList()) output.parts = in[0].parts;
    if (!output.value.isList()) output.batch = most(in[0]);
  }
  return true;
}

}  // namespace

void BatchTrail::compare(std::int64_t images) {
  images_[1] = images;
  comparing_ = true;
}

bool BatchTrail::depends(const WalkValue& value) const {
  return most(value) != Dependence::kFree || (is_tensor(value) && dependent_.count(key(value)) > 0);
}

void BatchTrail::compare_output(const Numbers& before, const Numbers& now,
                                WalkValue& output) const {
  const auto judge = [&](std::size_t i) {
    if (before[i] == now[i]) return Dependence::kFree;
    return before[i] == images_[0] && now[i] == images_[1] ? Dependence::kNumber
                                                           : Dependence::kOther;
  };
  if (before.size() != now.size())
    output.batch = Dependence::kOther;
  else if (!output.value.isList())
    output.batch = judge(0);
  else
    for (std::size_t i = 0; i < now.size(); ++i) output.parts->batch.push_back(judge(i));
}

void BatchTrail::inherit(const std::string& name, const WalkValues& inputs, WalkValue& output) {
  const bool keeps =
      is_one_of(name, {"NumToTensor", "Int", "IntImplicit", "ScalarImplicit", "item"});
  output.batch =
      keeps && inputs[0].batch == Dependence::kNumber ? Dependence::kNumber : Dependence::kOther;
  if (!is_tensor(output)) return;
  dependent_.insert(key(output));
  kept_.push_back(output.value.toTensor());
}

bool BatchTrail::executed(const torch::jit::Node& node, const WalkValues& inputs,
                          WalkValues& outputs) {
  const bool images = std::any_of(inputs.begin(), inputs.end(),
                                  [](const WalkValue& value) { return value.of_images(); });
  Step step{&node, {}};
  for (WalkValue& output : outputs) {
    output.images = images && output.value.isTensor();
    if (output.value.isList()) output.parts = std::make_shared<WalkParts>();
    if (output.value.isList()) output.parts->images = images && holds_tensors(output.value);
    step.outputs.push_back(numbers_in(output.value));
  }
  if (!comparing_) {
    steps_.push_back(std::move(step));
    return true;
  }
  if (next_ == steps_.size() || steps_[next_].node != &node) return false;
  const Step& before = steps_[next_++];
  const std::string name = node.kind().toUnqualString();
  if (moves(name, inputs, outputs)) return true;
  const bool inherits = std::any_of(inputs.begin(), inputs.end(),
                                    [&](const WalkValue& value) { return depends(value); });
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (outputs[i].images) continue;
    if (inherits)
      inherit(name, inputs, outputs[i]);
    else
      compare_output(before.outputs[i], step.outputs[i], outputs[i]);
  }
  return true;
}

bool BatchTrail::misuses(const std::string& name, const WalkValues& inputs) const {
  const bool shapes = is_one_of(name, {"view", "reshape", "_unsafe_view", "_reshape_alias"});
  for (const WalkValue& value : inputs) {
    if (!depends(value)) continue;
    if (!shapes || !value.value.isList() || value.batch != Dependence::kFree) return true;
    const std::vector<Dependence>& each = value.parts->batch;
    const bool rest =
        each.size() > 2 && std::any_of(each.begin() + 1, each.end(),
                                       [](Dependence batch) { return batch != Dependence::kFree; });
    if (each[0] != Dependence::kNumber || rest) return true;
  }
  return false;
}

WalkValue joined(c10::IValue value, const WalkValues& items) {
  WalkValue whole{std::move(value)};
  whole.parts = std::make_shared<WalkParts>();
  for (const WalkValue& item : items) {
    whole.parts->batch.push_back(most(item));
    whole.parts->images = whole.parts->images || item.of_images();
  }
  return whole;
}

WalkValue element_of(const WalkValue& whole, std::int64_t index, c10::IValue item) {
  WalkValue value{std::move(item)};
  value.batch = element(whole, index);
  value.images = whole.of_images() && value.value.isTensor();
  if (value.value.isList() || value.value.isTuple()) {
    value.parts = std::make_shared<WalkParts>();
    value.parts->images = whole.of_images();
  }
  return value;
}

WalkValues separated(const WalkValue& whole, c10::ArrayRef<c10::IValue> items) {
  WalkValues values;
  for (std::size_t i = 0; i < items.size(); ++i)
    values.push_back(element_of(whole, static_cast<std::int64_t>(i), items[i]));
  return values;
}

}  // namespace sentinel
