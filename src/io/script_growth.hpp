#pragma once
#include <cstdint>
#include <set>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "script_lexer.hpp"

namespace sentinel {

/// LibTorch computes with constants while it reads code. Texts and tuples of themselves would
/// double with every line, and a division by zero would end the program. For tuples in each other
/// it takes twice as long with each that is added.
class ScriptGrowth {
 public:
  /// Takes note of the constants of a file's classes; of all files before the first check.
  void add_constants(const std::vector<ScriptStatement>& statements);
  /// Adds the assignments of a file. DataError where their values, by the texts and variables that
  /// they are made of, may together be larger or deeper than any network's, or numbers alone are
  /// divided.
  void check(const std::vector<ScriptStatement>& statements, const ScriptPlace& place);

 private:
  struct Value {
    std::uint64_t size = 0;  // characters, or elements of tuples: a bound
    bool constant = true;
    std::size_t depth = 0;  // of lists, tuples and dictionaries in each other
  };
  using Variables = std::unordered_map<std::string_view, Value>;

  Value evaluate(const std::vector<ScriptToken>& tokens, std::size_t begin,
                 const Variables& variables, const ScriptPlace& place) const;

  std::set<std::string_view> constants_;  // attributes of classes that are written in the code
  std::uint64_t total_ = 0;
};

}  // namespace sentinel
