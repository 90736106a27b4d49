#pragma once
#include <vector>

#include "sentinel/store/schema.hpp"
#include "store/h5.hpp"

namespace sentinel::store {

/// <method>/<layer>/{scores, order} below `parent`, as results and ranking files hold them.
void write_importance(const h5::File& file, hid_t parent, const std::vector<ImportanceInfo>& all);
/// The inverse, in the order written.
std::vector<ImportanceInfo> read_importance(const h5::File& file, hid_t parent);

}  // namespace sentinel::store
