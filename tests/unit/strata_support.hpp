#pragma once
#include <limits>
#include <string>
#include <utility>

#include "sentinel/graph/stored.hpp"

namespace sentinel::test {

/// The first and last number of "2 words read wrongly", "3 to 4 words ...", "5 or more words ...".
inline std::pair<std::size_t, std::size_t> numbers_of(const std::string& stratum) {
  const std::size_t first = std::stoul(stratum), space = stratum.find(' ');
  const std::string rest = stratum.substr(space + 1);
  if (rest.rfind("or more", 0) == 0) return {first, std::numeric_limits<std::size_t>::max()};
  return {first, rest.rfind("to ", 0) == 0 ? std::stoul(rest.substr(3)) : first};
}

/// Stores every tensor of a class so.
inline void store(Graph& graph, TensorClass kind, const std::string& layout) {
  for (const StoredTensor& tensor : stored_tensors(graph))
    if (tensor.kind == kind) store_as(graph, tensor.name, parse_layout(layout));
}

}  // namespace sentinel::test
