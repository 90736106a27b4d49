#include "script_growth.hpp"

#include <algorithm>

#include "script_forms.hpp"
#include "sentinel/core/error.hpp"

namespace sentinel {
namespace {

constexpr std::uint64_t kMaxTotal = 50'000'000;  // characters; 59 000
constexpr std::size_t kMaxDepth = 5;             // lists and tuples in each other; 2

/// Operators that return their arguments joined. Others return numbers, tensors or what their head
/// says.
bool joins(std::string_view function) {
  return function == "add" || function == "add_" || function == "format" ||
         function == "annotate" || function == "unchecked_cast" || function == "str";
}

/// Operators that may return what is in their arguments, or a list of these. Other functions of
/// LibTorch return numbers, tensors or lists of these, those of the file what their heads say.
bool keeps_depth(std::string_view function) {
  static const std::set<std::string_view> names{
      "list", "copy",        "mul", "pop",   "values",           "items",
      "dict", "__getitem__", "get", "slice", "_unwrap_optional", "unchecked_unwrap_optional"};
  return joins(function) || names.count(function) > 0;
}

bool divides(std::string_view function) {
  return function == "remainder" || function == "floordiv" || function == "fmod" ||
         function == "floor_divide";
}

/// A name that stands for a constant, or for a namespace before one.
bool is_constant_name(std::string_view name) {
  return name == "True" || name == "False" || name == "torch" || name == "ops" || name == "prim" ||
         name == "inf" || name == "nan" || name == "CONSTANTS";
}

struct Open {
  std::uint64_t size = 0;
  bool constant = true;
  std::string_view function;  // empty for a tuple, list or subscript
  bool builtin = false;       // torch.NAME
  bool container = false;     // a list, a tuple or a dictionary
  std::size_t depth = 0;      // of those in it
};

/// A bracket behind a value takes something out of it. Of round ones a comma makes a tuple.
bool begins_list(const std::vector<ScriptToken>& tokens, std::size_t begin, std::size_t i) {
  if (tokens[i].is("{") || i == begin) return !tokens[i].is("(");
  const ScriptToken& before = tokens[i - 1];
  const bool value = before.kind == ScriptTokenKind::kName
                         ? !before.is_name("else") && !before.is_name("if")
                         : before.is(")") || before.is("]");
  return tokens[i].is("[") && !value;
}

}  // namespace

ScriptGrowth::Value ScriptGrowth::evaluate(const std::vector<ScriptToken>& tokens,
                                           std::size_t begin, const Variables& variables,
                                           const ScriptPlace& place) const {
  std::vector<Open> open(1);
  for (std::size_t i = begin; i < tokens.size(); ++i) {
    const ScriptToken& token = tokens[i];
    const bool called = i + 1 < tokens.size() && tokens[i + 1].is("(");
    if (token.kind == ScriptTokenKind::kText) {
      open.back().size += token.text.size() + 1;
    } else if (token.kind == ScriptTokenKind::kName && !called) {
      const bool attribute = i > begin && tokens[i - 1].is(".");
      if (attribute && constants_.count(token.text) > 0) continue;
      const auto known = variables.find(token.text);
      open.back().size += known == variables.end() ? 1 : known->second.size;
      if (known != variables.end())
        open.back().depth = std::max(open.back().depth, known->second.depth);
      const bool holder = i + 2 < tokens.size() && tokens[i + 1].is(".") &&
                          constants_.count(tokens[i + 2].text) > 0;
      const bool varies = known == variables.end() || !known->second.constant;
      if (!attribute && !holder && !is_constant_name(token.text) && varies)
        open.back().constant = false;
    } else if (token.is("(") || token.is("[") || token.is("{")) {
      const bool call = token.is("(") && i > begin && tokens[i - 1].kind == ScriptTokenKind::kName;
      const bool builtin = call && i > begin + 2 && tokens[i - 2].is(".") &&
                           (tokens[i - 3].is_name("torch") || tokens[i - 3].is_name("prim"));
      open.push_back({0, true, call ? tokens[i - 1].text : std::string_view(), builtin,
                      begins_list(tokens, begin, i), 0});
    } else if (token.is(",")) {
      open.back().container = open.back().container || open.back().function.empty();
    } else if ((token.is(")") || token.is("]") || token.is("}")) && open.size() > 1) {
      const Open done = open.back();
      open.pop_back();
      const bool call = !done.function.empty();
      if (!call || keeps_depth(done.function))
        open.back().depth = std::max(open.back().depth, done.depth + (done.container ? 1 : 0));
      if (call && divides(done.function) && done.constant)
        place.fail(token.line, "it divides constants by constants, which PyTorch never writes");
      open.back().size += !call || joins(done.function) ? done.size + 1 : 1;
      const bool plain = !call || done.builtin || joins(done.function) || done.function == "int" ||
                         done.function == "float" || done.function == "bool";
      const bool written = done.function == "getattr" && !constants_.empty();
      if (!written && (!plain || !done.constant)) open.back().constant = false;
    }
  }
  return {open.back().size, open.back().constant, open.back().depth};
}

void ScriptGrowth::add_constants(const std::vector<ScriptStatement>& statements) {
  for (const ScriptStatement& statement : statements)
    if (statement.indent == 1 && statement.tokens.size() > 2 && statement.tokens[1].is(":") &&
        assignment_in(statement.tokens) > 0)
      constants_.insert(statement.tokens[0].text);
}

void ScriptGrowth::check(const std::vector<ScriptStatement>& statements, const ScriptPlace& place) {
  Variables variables;
  for (const ScriptStatement& statement : statements) {
    const auto& tokens = statement.tokens;
    if (tokens[0].is_name("def")) variables.clear();
    const std::size_t equals = assignment_in(tokens);
    const Value value = evaluate(tokens, equals == 0 ? 0 : equals + 1, variables, place);
    total_ += value.size;
    if (value.size > kMaxTotal || total_ > kMaxTotal)
      place.fail(tokens[0].line,
                 "it makes texts or tuples of themselves, larger than any network "
                 "needs");
    if (value.depth > kMaxDepth)
      place.fail(tokens[0].line,
                 "it puts lists or tuples into each other, deeper than any network");
    for (std::size_t i = 0; i < equals; ++i)
      if (tokens[i].kind == ScriptTokenKind::kName) {
        const auto [known, added] = variables.emplace(tokens[i].text, value);
        if (added) continue;
        // One of two branches may be the only one that is ever taken.
        known->second.size = std::max(known->second.size, value.size);
        known->second.depth = std::max(known->second.depth, value.depth);
        known->second.constant = known->second.constant || value.constant;
      }
  }
}

}  // namespace sentinel
