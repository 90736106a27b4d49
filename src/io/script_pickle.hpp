#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "pickle.hpp"
#include "sentinel/core/bytes.hpp"
#include "tensor_views.hpp"

namespace sentinel {

/// Names that a TorchScript file's pickles may use.
std::vector<std::string_view> script_globals();

/// Size in bytes of the record of a storage. DataError where there is none.
using StorageSize = std::function<std::size_t(const std::string& key)>;

/// A pickle written again, and the storages that its tensors want: the i-th is named "i" in it.
struct CleanPickle {
  Bytes bytes;
  std::vector<std::string> storages;  // their keys in the file
};

/// Names of classes, and how many attributes a reader looks for in each object of one.
using ClassSizes = std::map<std::string, std::uint64_t>;

/// Writes a TorchScript file's pickle again, in the one form that torch.jit.save has for it.
/// DataError where it holds something else, an object of a class that is not in `classes`, a tensor
/// beyond its storage, is nested deeper than any network (LibTorch would crash on that), or has so
/// many objects, or attributes in them, that it would be read for hours.
CleanPickle rewrite_script_pickle(const Pickle& pickle, const ClassSizes& classes,
                                  const StorageSize& size);

/// An attribute of an object, null where it has none of this name.
const PickleValue* attribute_of(const Pickle& pickle, const PickleValue& object,
                                std::string_view name);

}  // namespace sentinel
