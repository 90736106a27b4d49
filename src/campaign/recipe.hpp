#pragma once
#include <string>

#include "sentinel/campaign/setup.hpp"

namespace sentinel {

// What the makers of models (make_pruned, make_hardened) share.

/// The same graph on every rank from rank 0's bytes. Collective.
NamedModel parse_everywhere(const Comm& comm, const Bytes& file, const std::string& source,
                            const ModelSelection& selection);
/// SHA-256 of all scores.
std::string hash_of(const ChannelScores& scores);
/// SHA-256 of the network alone: the command that made it does not count.
std::string content_hash(const Graph& graph);
/// The file, if it is a checkpoint made by this recipe and has the weights that it was made with,
/// where it says so; else nothing, which is logged where there is a file.
Bytes made_by(const std::string& recipe, const std::string& path);

}  // namespace sentinel
