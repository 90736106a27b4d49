#pragma once
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "script_lexer.hpp"
#include "script_pickle.hpp"

namespace sentinel {

/// The head of a class: what its objects hold.
struct ScriptClass {
  bool is_module = false;
  std::vector<std::pair<std::string, std::string>> attributes;  // name, type as written
  std::set<std::string> parameters, buffers;                    // names of attributes
};

/// The code of an archive as text.
class ScriptCode {
 public:
  /// Splits it and reads the heads of classes. DataErrors name `source`, which must outlive it.
  ScriptCode(std::vector<ScriptText> files, const std::string& source);

  /// Classes by full name: "__torch__.net.Net".
  const std::map<std::string, ScriptClass>& classes() const { return classes_; }
  ClassSizes class_sizes() const;

  /// DataError, naming record, line and operator, where it is more than a network: other operators
  /// than is_script_operator's, names that nothing defines, hooks, __setstate__, C++ classes,
  /// definitions that use each other in a circle or too deeply, texts that double.
  void check() const;

 private:
  struct File {
    ScriptText text;
    std::vector<ScriptStatement> statements;
  };

  void read_heads(const File& file);

  const std::string& source_;
  std::vector<File> files_;
  std::map<std::string, ScriptClass> classes_;
};

}  // namespace sentinel
