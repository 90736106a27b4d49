#pragma once
#include <ATen/ATen.h>

#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "pickle.hpp"

namespace sentinel {

/// What a checkpoint's pickle says about a storage: `numel` elements of `dtype`.
struct StorageId {
  std::string key;
  at::ScalarType dtype = at::kFloat;
  std::int64_t numel = 0;
  std::int64_t first = 0;  // element; not 0 in old files where one storage is part of another
  bool quantised = false;  // `dtype` is that of the integers
};

/// One named tensor as the pickle describes it: a strided view into a storage.
struct TensorView {
  std::string name;
  StorageId storage;
  std::int64_t offset = 0;                   // in elements
  std::vector<std::int64_t> sizes, strides;  // in elements
  const PickleValue* at = nullptr;           // for errors
  // A quantised tensor, whose elements are integers:
  double scale = 1;
  std::int64_t zero_point = 0, axis = 0;
  std::vector<TensorView> by_channel;  // its scales and zero points along the axis; else empty
};

/// The bytes of a storage, somewhere in the file.
struct StorageData {
  const std::byte* data = nullptr;
  std::size_t size = 0;  // bytes
};
using Storages = std::unordered_map<std::string, StorageData>;

/// Names a state_dict's pickle may use.
std::vector<std::string_view> checkpoint_globals();

/// A dictionary of a pickle that holds tensors.
struct TensorViews {
  std::string key;  // the keys that lead to it, "" for the outermost: "checkpoint.state_dict"
  std::vector<TensorView> tensors;  // at least one
  std::vector<std::string> others;  // names of its entries that are neither tensors nor such
};

/// Every dictionary of tensors that texts as keys lead to, in the order of parse_weights. Looks at
/// no more than 1000 dictionaries, 8 deep. Throws DataError, naming an entry, where there is none.
std::vector<TensorViews> find_tensors(const Pickle& pickle);

/// A persistent id as torch.save writes it: ("storage", class, key, device, numel[, part]).
StorageId read_storage_id(const Pickle& pickle, const PickleValue& value);

/// Whether a value is a call of _rebuild_tensor or _rebuild_tensor_v2.
bool is_tensor(const Pickle& pickle, const PickleValue& value);

/// The arguments of such a call. DataErrors name it `name`.
TensorView read_tensor(const Pickle& pickle, std::string name, const PickleValue& call);
/// Those of a call of _rebuild_qtensor.
TensorView read_quantised(const Pickle& pickle, std::string name, const PickleValue& call);

/// The number of elements. DataError where the view does not lie within its storage of `bytes`, or
/// has more elements than it.
std::int64_t check_tensor(const Pickle& pickle, const TensorView& view, std::size_t bytes);

/// A contiguous copy. The view must lie within its storage and have no more elements than it. A
/// quantised one has the type kQInt8, kQUInt8 or kQInt32.
at::Tensor copy_tensor(const Pickle& pickle, const TensorView& view, const Storages& storages);

}  // namespace sentinel
