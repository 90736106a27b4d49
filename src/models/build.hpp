#pragma once
#include <string>

#include "models/checkpoint_source.hpp"
#include "models/families.hpp"

namespace sentinel {

/// build_model for a file whose record describes its protection (null: no record).
Graph build_protected_model(const Family& family, std::int64_t classes, const StateDict& tensors,
                            const std::string& source, const Protection* protection);

/// DenseNet's published weights have the names of PyTorch before 0.4: "denselayer1.norm.1.weight".
StateDict with_new_names(const StateDict& tensors);

}  // namespace sentinel
