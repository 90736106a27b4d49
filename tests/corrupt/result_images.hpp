#pragma once
#include <cstdint>
#include <vector>

#include "sentinel/core/bytes.hpp"

namespace sentinel::test {

/// A result or ranking whose values lie plainly in the file (neither chunked nor packed), so that
/// they can be changed while HDF5's structure stays valid.
struct ResultImage {
  struct Field {
    std::size_t offset = 0, size = 0;  // bytes
  };
  Bytes file;
  std::vector<Field> fields;  // numbers and texts of all tables and attributes
};

/// Good ones, and each of them with one table of 0 rows or a row too few.
std::vector<ResultImage> result_images();

/// The good ones as the program writes them.
std::vector<Bytes> result_files();

}  // namespace sentinel::test
