#include "script_code.hpp"

#include <algorithm>

#include "script_forms.hpp"
#include "script_growth.hpp"
#include "script_references.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/io/script_file.hpp"

namespace sentinel {
namespace {

using Tokens = std::vector<ScriptToken>;

/// Names that may stand without a dot before them, beside the names that a file gives.
bool is_known_name(std::string_view name) {
  static const std::set<std::string_view> names{
      // Keywords, values, types.
      "class", "def", "return", "if", "else", "for", "in", "while", "pass", "True", "False", "None",
      "inf", "nan", "Tensor", "List", "Dict", "Tuple", "Optional", "Union", "Final", "NoneType",
      "Device", "number", "Module", "NamedTuple", "Interface", "ModuleInterface",
      // Functions.
      "annotate", "unchecked_cast", "uninitialized", "getattr", "isinstance", "range", "int",
      "float", "bool", "str"};
  return names.count(name) > 0;
}

/// Names behind ops.prim.
bool is_primitive(std::string_view name) {
  static const std::set<std::string_view> names{"NumToTensor", "RaiseException",
                                                "device",      "dtype",
                                                "is_cuda",     "layout",
                                                "max",         "min",
                                                "data",        "requires_grad",
                                                "shape",       "unchecked_unwrap_optional",
                                                "TupleIndex",  "abs"};
  return names.count(name) > 0;
}

bool is_special(std::string_view name) {
  return name.size() > 4 && name.substr(0, 2) == "__" && name.substr(name.size() - 2) == "__";
}

std::string joined(const Tokens& tokens, std::size_t begin) {
  std::string text;
  for (std::size_t i = begin; i < tokens.size(); ++i) text += tokens[i].text;
  return text;
}

std::set<std::string> texts_in(const Tokens& tokens) {
  std::set<std::string> texts;
  for (const ScriptToken& token : tokens)
    if (token.kind == ScriptTokenKind::kText) texts.emplace(token.text);
  return texts;
}

/// Checks the names of one file.
class NameCheck {
 public:
  NameCheck(const std::vector<ScriptStatement>& statements, const ScriptPlace& place,
            const std::set<std::string_view>& attributes, ScriptReferences& references,
            const std::string& module)
      : statements_(statements),
        place_(place),
        attributes_(attributes),
        references_(references),
        module_(module) {}

  void run() {
    for (const ScriptStatement& statement : statements_) collect_locals(statement.tokens);
    for (const ScriptStatement& statement : statements_) {
      if (is_left_out(statement)) continue;
      begin_definition(statement);
      references_.deepen(statement.indent);
      for (std::size_t i = 0; i < statement.tokens.size(); ++i)
        if (statement.tokens[i].kind == ScriptTokenKind::kName) i = check_name(statement.tokens, i);
    }
  }

 private:
  /// Old files begin so; LibTorch only skips these.
  static bool is_left_out(const ScriptStatement& statement) {
    const Tokens& tokens = statement.tokens;
    if (statement.indent != 0) return false;
    return tokens[0].is_name("import") ||
           (tokens[0].is_name("op_version_set") && tokens.size() == 3 &&
            tokens[2].kind == ScriptTokenKind::kNumber);
  }

  /// Names of variables, arguments and attributes.
  void collect_locals(const Tokens& tokens) {
    const std::size_t end = assignment_in(tokens);
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      if (tokens[i].kind != ScriptTokenKind::kName || (i > 0 && tokens[i - 1].is("."))) continue;
      const bool named = i + 1 < tokens.size() && (tokens[i + 1].is("=") || tokens[i + 1].is(":"));
      const bool after = i > 0 && (tokens[i - 1].is_name("for") || tokens[i - 1].is_name("def") ||
                                   tokens[i - 1].is_name("class"));
      if (i < end || named || after) locals_.insert(tokens[i].text);
    }
  }

  void begin_definition(const ScriptStatement& statement) {
    const Tokens& tokens = statement.tokens;
    const bool defines = tokens[0].is_name("class") || tokens[0].is_name("def");
    if (!defines || tokens.size() < 2) return;
    if (statement.indent == 0) references_.begin(module_ + "." + std::string(tokens[1].text));
    const std::string_view name = tokens[1].text;
    if (tokens[0].is_name("def") && is_special(name) && name != "__getstate__" &&
        name != "__len__" && name != "__contains__" && name != "__getitem__" && name != "__init__")
      place_.fail(tokens[1].line, "the method " + quoted_name(name) +
                                      " is refused: it would run while the file is read; save a "
                                      "network without it");
  }

  /// Returns where the name ends.
  std::size_t check_name(const Tokens& tokens, std::size_t i) {
    const ScriptToken& token = tokens[i];
    if (i > 0 && tokens[i - 1].is(".")) {
      if (attributes_.count(token.text) == 0) require_operator(token, token.text);
      return i;
    }
    if (token.text == "torch" || token.text == "ops" || token.text == "__torch__") {
      std::size_t end = i;
      std::string name(token.text);
      while (end + 2 < tokens.size() && tokens[end + 1].is(".") &&
             tokens[end + 2].kind == ScriptTokenKind::kName) {
        end += 2;
        name.append(1, '.').append(tokens[end].text);
        if (token.text == "torch" && end == i + 2) break;
      }
      check_global(token, name);
      return end;
    }
    if (token.text == "CONSTANTS") {
      const bool one = i + 2 < tokens.size() && tokens[i + 1].is(".") &&
                       tokens[i + 2].kind == ScriptTokenKind::kName;
      if (!one || tokens[i + 2].text.substr(0, 1) != "c" ||
          tokens[i + 2].text.find_first_not_of("0123456789", 1) != std::string_view::npos)
        place_.fail(token.line, "CONSTANTS without the number of a constant");
      return i + 2;
    }
    if (token.text == "Any")
      place_.fail(token.line, "the type Any is refused: a list of it may hold itself");
    if (!is_known_name(token.text) && locals_.count(token.text) == 0)
      place_.fail(token.line, "the name " + quoted_name(token.text) +
                                  " is not known: the file does not define it");
    return i;
  }

  void check_global(const ScriptToken& token, const std::string& name) {
    constexpr std::string_view kTorch = "torch.", kPrim = "ops.prim.", kAten = "ops.aten.";
    const auto begins = [&](std::string_view text) { return name.rfind(text, 0) == 0; };
    if (begins("__torch__")) return references_.add(name, token.line, place_);
    if (begins(kPrim) && is_primitive(name.substr(kPrim.size()))) return;
    if (begins(kTorch)) return require_operator(token, name.substr(kTorch.size()), name);
    if (begins(kAten)) return require_operator(token, name.substr(kAten.size()), name);
    refuse_operator(token, name);
  }

  void require_operator(const ScriptToken& token, std::string_view name,
                        const std::string& shown = "") const {
    if (!is_script_operator(name)) refuse_operator(token, shown.empty() ? name : shown);
  }

  [[noreturn]] void refuse_operator(const ScriptToken& token, std::string_view name) const {
    place_.fail(token.line, "the operator " + quoted_name(name) +
                                " is none of those that a CNN needs; nothing of the file was run. "
                                "docs/torchscript.md lists what is read");
  }

  const std::vector<ScriptStatement>& statements_;
  const ScriptPlace& place_;
  const std::set<std::string_view>& attributes_;
  ScriptReferences& references_;
  const std::string& module_;
  std::set<std::string_view> locals_;
};

/// Names after a dot: attributes and methods that the files define.
void collect_attributes(const std::vector<ScriptStatement>& statements,
                        std::set<std::string_view>& names) {
  for (const ScriptStatement& statement : statements) {
    const Tokens& tokens = statement.tokens;
    if (tokens.size() < 2 || statement.indent > 1) continue;
    if (tokens[0].is_name("def")) names.insert(tokens[1].text);
    if (statement.indent == 1 && tokens[1].is(":")) names.insert(tokens[0].text);
  }
}

}  // namespace

ScriptCode::ScriptCode(std::vector<ScriptText> files, const std::string& source) : source_(source) {
  files_.reserve(files.size());
  for (ScriptText& file : files) {
    files_.push_back({std::move(file), {}});
    File& added = files_.back();
    added.statements = split_script(added.text, ScriptPlace(source_, added.text.record));
    read_heads(added);
  }
}

void ScriptCode::read_heads(const File& file) {
  ScriptClass* now = nullptr;
  for (const ScriptStatement& statement : file.statements) {
    const Tokens& tokens = statement.tokens;
    if (statement.indent == 0) now = nullptr;
    if (statement.indent == 0 && tokens[0].is_name("class") && tokens.size() > 1) {
      now = &classes_[file.text.module + "." + std::string(tokens[1].text)];
      now->is_module = tokens.size() > 3 &&
                       (tokens[3].is_name("Module") || tokens[3].is_name("ModuleInterface"));
    }
    if (now == nullptr || statement.indent != 1 || tokens.size() < 3) continue;
    if (tokens[0].is_name("__parameters__"))
      now->parameters = texts_in(tokens);
    else if (tokens[0].is_name("__buffers__"))
      now->buffers = texts_in(tokens);
    else if (tokens[0].is_name("__annotations__") && tokens.size() > 5)
      now->attributes.emplace_back(tokens[2].text, joined(tokens, 5));
    else if (tokens[1].is(":") && assignment_in(tokens) == 0)
      now->attributes.emplace_back(tokens[0].text, joined(tokens, 2));
  }
}

ClassSizes ScriptCode::class_sizes() const {
  constexpr std::size_t kUsual = 64;  // characters of a name and a type
  ClassSizes sizes;
  for (const auto& [name, type] : classes_) {
    std::uint64_t& size = sizes[name];
    for (const auto& [attribute, kind] : type.attributes)
      size += 1 + (attribute.size() + kind.size()) / kUsual;
  }
  return sizes;
}

void ScriptCode::check() const {
  std::set<std::string_view> attributes{"forward"};
  ScriptReferences references;
  ScriptGrowth growth;
  for (const File& file : files_) {
    growth.add_constants(file.statements);
    collect_attributes(file.statements, attributes);
    for (const ScriptStatement& statement : file.statements)
      if (statement.indent == 0 && statement.tokens.size() > 1)
        references.define(file.text.module + "." + std::string(statement.tokens[1].text));
  }
  for (const File& file : files_) {
    const ScriptPlace place(source_, file.text.record);
    check_script_forms(file.statements, place);
    NameCheck(file.statements, place, attributes, references, file.text.module).run();
    growth.check(file.statements, place);
  }
  references.check(source_);
}

}  // namespace sentinel
