#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "pickle.hpp"

namespace sentinel {

/// Names the Python release of CIFAR may use (Python 2, Python 3, NumPy 1 and 2).
std::vector<std::string_view> numpy_globals();

/// The value of a dictionary's key (str or bytes), nullptr if absent. DataError if it is no
/// dictionary.
const PickleValue* find_key(const Pickle& pickle, const PickleValue& dictionary,
                            std::string_view key);

/// A two-dimensional array of unsigned bytes, row by row.
struct ByteMatrix {
  std::int64_t rows = 0, columns = 0;
  std::vector<std::uint8_t> values;
};
/// DataError where the value is anything else or its size does not fit.
ByteMatrix read_byte_matrix(const Pickle& pickle, const PickleValue& value);

}  // namespace sentinel
