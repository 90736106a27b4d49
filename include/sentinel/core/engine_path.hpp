#pragma once
#include <cstdint>
#include <string>

#include "sentinel/core/setting.hpp"

namespace sentinel {

/// Which code computes a trial. Values are part of the file format (TrialRow::path).
enum class EnginePath : std::uint8_t { kReference = 0, kFast = 1 };

/// "fast", "reference". UserError for other words of the setting.
EnginePath parse_engine(Setting setting, const std::string& word);
std::string engine_name(EnginePath engine);

}  // namespace sentinel
