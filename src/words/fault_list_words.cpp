#include "sentinel/words/fault_list_words.hpp"

#include <fmt/format.h>

namespace sentinel {

std::string given_word(Word word) {
  return fmt::format("{}{:x}", kGivenWord, word);
}

}  // namespace sentinel
