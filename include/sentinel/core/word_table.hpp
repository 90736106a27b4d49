#pragma once
#include <cstddef>
#include <string>
#include <vector>

#include "sentinel/core/error.hpp"
#include "sentinel/core/setting.hpp"

namespace sentinel {

/// The word for a value of a closed set. A set is an array of these, in the order of messages.
template <class T>
struct NamedValue {
  const char* word;
  T value;
};

/// "engine slow is unknown; choose fast or reference": what messages say of a word that is none of
/// those known.
inline std::string unknown_word(const std::string& what, const std::string& text,
                                const std::vector<std::string>& known) {
  std::string message = what + " " + (text.empty() ? "''" : text) + " is unknown; choose ";
  for (std::size_t i = 0; i < known.size(); ++i)
    message += (i == 0 ? "" : i + 1 < known.size() ? ", " : " or ") + known[i];
  return message;
}

/// UserError where no word of the set is `text`.
template <class T, std::size_t N>
T parse_word(const NamedValue<T> (&set)[N], Setting setting, const std::string& text) {
  std::vector<std::string> known;
  for (const NamedValue<T>& own : set) {
    if (text == own.word) return own.value;
    known.push_back(own.word);
  }
  throw UserError(unknown_word(spelled(setting), text, known));
}

/// Bug where the set has no such value.
template <class T, std::size_t N>
std::string word_for(const NamedValue<T> (&set)[N], T value) {
  for (const NamedValue<T>& own : set)
    if (own.value == value) return own.word;
  throw Bug("a value without a word");
}

}  // namespace sentinel
