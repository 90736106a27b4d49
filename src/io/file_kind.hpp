#pragma once
#include <string>
#include <vector>

#include "sentinel/core/bytes.hpp"

namespace sentinel {

/// Why a file that is no checkpoint is none, and what to do: by how it begins.
std::string what_file(const Bytes& bytes);

/// The same of a zip archive that torch.save did not write, by its records: ": a NumPy archive …",
/// empty where nothing is known.
std::string what_archive(const std::vector<std::string>& records);

/// Why a Python object that a pickle wants is refused, and what to do. `whole`: it is what the
/// pickle itself is, not something in it.
std::string why_refused(const std::string& global, bool whole);

}  // namespace sentinel
