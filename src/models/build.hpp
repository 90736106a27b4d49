#pragma once
#include <string>

#include "models/checkpoint_source.hpp"
#include "models/families.hpp"

namespace sentinel {

/// build_model for a file whose record describes its protection (null: no record).
Graph build_protected_model(const Family& family, std::int64_t classes, const StateDict& tensors,
                            const std::string& source, const Protection* protection);

}  // namespace sentinel
