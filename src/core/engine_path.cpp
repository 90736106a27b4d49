#include "sentinel/core/engine_path.hpp"

#include "sentinel/core/word_table.hpp"

namespace sentinel {
namespace {

constexpr NamedValue<EnginePath> kEngines[] = {{"fast", EnginePath::kFast},
                                               {"reference", EnginePath::kReference}};

}  // namespace

EnginePath parse_engine(Setting setting, const std::string& word) {
  return parse_word(kEngines, setting, word);
}

std::string engine_name(EnginePath engine) {
  return word_for(kEngines, engine);
}

}  // namespace sentinel
