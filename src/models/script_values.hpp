#pragma once
#include <torch/script.h>

#include <algorithm>
#include <initializer_list>
#include <string>

// Small things that the walk and those who watch it share.

namespace sentinel {

inline bool is_one_of(const std::string& name, std::initializer_list<const char*> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

inline bool has_memory(const c10::IValue& value) {
  return value.isTensor() && value.toTensor().defined() && value.toTensor().has_storage();
}

/// The same for all views of a tensor.
inline const void* memory_key(const at::Tensor& tensor) {
  return tensor.storage().unsafeGetStorageImpl();
}

/// Calls `see` for a value and for all that is in it, at any depth.
template <typename See>
void visit_all(const c10::IValue& value, const See& see) {
  see(value);
  if (value.isList())
    for (const c10::IValue& item : value.toListRef()) visit_all(item, see);
  if (value.isTuple())
    for (const c10::IValue& item : value.toTupleRef().elements()) visit_all(item, see);
  if (value.isGenericDict())
    for (const auto& entry : value.toGenericDict()) visit_all(entry.value(), see);
}

/// Whether there is a tensor in it.
inline bool holds_tensor(const c10::IValue& value) {
  bool found = false;
  visit_all(value, [&](const c10::IValue& one) {
    found = found || (one.isTensor() && one.toTensor().defined());
  });
  return found;
}

}  // namespace sentinel
