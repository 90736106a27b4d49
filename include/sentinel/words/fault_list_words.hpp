#pragma once
#include <string>
#include <string_view>

#include "sentinel/words/format.hpp"

namespace sentinel {

/// The first line of lists that this program writes, before the number of trials.
constexpr std::string_view kFaultListHead = "# sentinelnn-faults 1";
/// A random word that came out as the hexadecimal digits behind it: "random-word:0x3f800000".
constexpr std::string_view kGivenWord = "random-word:0x";
std::string given_word(Word word);

}  // namespace sentinel
