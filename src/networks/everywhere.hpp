#pragma once
#include <string>

#include "sentinel/comm/comm.hpp"
#include "sentinel/networks/network.hpp"
#include "sentinel/networks/selection.hpp"

namespace sentinel {

/// The same graph on every rank from rank 0's bytes. Collective.
NamedModel parse_everywhere(const Comm& comm, const Bytes& file, const std::string& source,
                            const ModelSelection& selection);
/// Throws on every rank where one has another hash of `what` than rank 0. Collective.
void require_same(const Comm& comm, const std::string& hash, const std::string& what);

}  // namespace sentinel
