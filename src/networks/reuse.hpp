#pragma once
#include <string>

#include "sentinel/core/bytes.hpp"
#include "sentinel/transform/importance.hpp"

namespace sentinel {

/// SHA-256 of all scores.
std::string hash_of(const ChannelScores& scores);
/// The file, if it is a checkpoint made by this recipe and has the weights that it was made with,
/// where it says so; else nothing, which is logged where there is a file.
Bytes made_by(const std::string& recipe, const std::string& path);

}  // namespace sentinel
