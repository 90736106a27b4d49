#pragma once
#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "script_lexer.hpp"

namespace sentinel {

/// Which definitions use which: LibTorch compiles one while it compiles another, as deep as that
/// goes.
class ScriptReferences {
 public:
  /// A class or function that there is.
  void define(const std::string& name) { used_[name]; }
  /// The references that follow are in this definition.
  void begin(const std::string& name) { current_ = name; }
  /// It holds a statement in so many blocks.
  void deepen(std::size_t blocks) {
    std::size_t& most = blocks_[current_];
    most = std::max(most, blocks);
  }
  /// A use of `name`, or of something in it. DataError where nothing defines it.
  void add(const std::string& name, std::uint32_t line, const ScriptPlace& place);
  /// DataError where they use each other in a circle, or too deep.
  void check(const std::string& source) const;

 private:
  /// One, and more for blocks in each other, which LibTorch follows in the same way.
  std::size_t levels_of(const std::string& name) const;
  std::size_t height(const std::string& name, std::size_t depth,
                     std::map<std::string, std::size_t>& known, const std::string& source) const;

  std::map<std::string, std::set<std::string>> used_;  // by a definition
  std::map<std::string, std::size_t> blocks_;          // in each other, in a definition
  std::string current_;
};

}  // namespace sentinel
