#pragma once
#include <string>

#include "sentinel/campaign/protect.hpp"

namespace sentinel {

/// The first line of everything that is told.
std::string sentence_of(const Answer& answer);
/// The sentence first, then the figures behind it and a table of the recipes.
void print_answer(const Answer& answer);
/// One line that begins with kAnswerHead.
std::string to_json(const Answer& answer);

}  // namespace sentinel
