#pragma once
#include <cstddef>
#include <string>

#include "sentinel/core/error.hpp"
#include "sentinel/core/setting.hpp"

namespace sentinel {

/// The word for a value of a closed set. A set is an array of these, in the order of messages.
template <class T>
struct NamedValue {
  const char* word;
  T value;
};

/// UserError where no word of the set is `text`, such as "engine slow is unknown; choose fast or
/// reference".
template <class T, std::size_t N>
T parse_word(const NamedValue<T> (&set)[N], Setting setting, const std::string& text) {
  std::string known;
  for (std::size_t i = 0; i < N; ++i) {
    if (text == set[i].word) return set[i].value;
    known += (i == 0 ? "" : i + 1 < N ? ", " : " or ") + std::string(set[i].word);
  }
  throw UserError(spelled(setting) + " " + (text.empty() ? "''" : text) + " is unknown; choose " +
                  known);
}

/// Bug where the set has no such value.
template <class T, std::size_t N>
std::string word_for(const NamedValue<T> (&set)[N], T value) {
  for (const NamedValue<T>& own : set)
    if (own.value == value) return own.word;
  throw Bug("a value without a word");
}

}  // namespace sentinel
