#pragma once
#include <string>

#include "sentinel/io/dataset.hpp"

namespace sentinel {

/// Reads a split in the format of CIFAR-10 or (where there are 100 classes) CIFAR-100, binary or
/// Python release.
Dataset read_cifar(const DatasetInfo& info, const std::string& folder, Split split);

}  // namespace sentinel
