#include "script_references.hpp"

#include <algorithm>

#include "sentinel/core/error.hpp"

namespace sentinel {
namespace {

constexpr std::size_t kMaxDepth = 64;  // definitions in each other; torchvision's have 12
constexpr std::size_t kOpen = SIZE_MAX;

}  // namespace

void ScriptReferences::add(const std::string& name, std::uint32_t line, const ScriptPlace& place) {
  if (name.find(".classes.") != std::string::npos)
    place.fail(line, "a C++ class, " + quoted_name(name) + ", is refused");
  if (name.find(".quantized.") != std::string::npos)
    place.fail(line, "a quantised network, which is not supported");
  std::string found = name;
  while (used_.count(found) == 0) {
    const std::size_t dot = found.rfind('.');
    if (dot == std::string::npos)
      place.fail(line, "it uses " + quoted_name(name) + ", which no file of the archive defines");
    found.resize(dot);
  }
  if (found != current_) used_[current_].insert(found);
}

std::size_t ScriptReferences::levels_of(const std::string& name) const {
  constexpr std::size_t kBlocksOfALevel = 8;
  const auto found = blocks_.find(name);
  return 1 + (found == blocks_.end() ? 0 : found->second / kBlocksOfALevel);
}

std::size_t ScriptReferences::height(const std::string& name, std::size_t depth,
                                     std::map<std::string, std::size_t>& known,
                                     const std::string& source) const {
  const auto [place, added] = known.emplace(name, kOpen);
  if (!added && place->second == kOpen)
    throw DataError(source, "its code defines " + quoted_name(name) + " by itself");
  if (added) {
    std::size_t most = 0;
    if (depth <= kMaxDepth)
      for (const std::string& used : used_.at(name))
        most = std::max(most, height(used, depth + levels_of(name), known, source));
    place->second = most + levels_of(name);
  }
  if (depth + place->second > kMaxDepth)
    throw DataError(source, "its code has more than " + std::to_string(kMaxDepth) +
                                " definitions that use each other, one by one, or such with "
                                "blocks in blocks, such as " +
                                quoted_name(name) + "; LibTorch would crash on it");
  return place->second;
}

void ScriptReferences::check(const std::string& source) const {
  std::map<std::string, std::size_t> known;
  for (const auto& entry : used_) height(entry.first, 0, known, source);
}

}  // namespace sentinel
