#include "script_forms.hpp"

#include <algorithm>
#include <set>

namespace sentinel {
namespace {

using Tokens = std::vector<ScriptToken>;

constexpr std::ptrdiff_t kMaxArguments = 500;  // with the parts of their types

bool is_literal_name(std::string_view name) {
  static const std::set<std::string_view> names{"True",     "False", "None",  "inf",  "nan",
                                                "annotate", "List",  "Tuple", "Dict", "Optional",
                                                "int",      "str",   "float", "bool", "Tensor"};
  return names.count(name) > 0;
}

/// Numbers, texts, lists of these: nothing that would be computed.
bool is_literal(const ScriptToken& token) {
  if (token.kind == ScriptTokenKind::kName) return is_literal_name(token.text);
  return token.kind != ScriptTokenKind::kSign ||
         std::string_view("[](),-").find(token.text[0]) != std::string_view::npos;
}

/// Names, dots and brackets: "Dict[str, Tensor]".
bool is_type(Tokens::const_iterator begin, Tokens::const_iterator end) {
  if (begin == end || begin->kind != ScriptTokenKind::kName) return false;
  return std::all_of(begin, end, [](const ScriptToken& token) {
    return token.kind == ScriptTokenKind::kName || token.is(".") || token.is(",") ||
           token.is("[") || token.is("]");
  });
}

/// [ ] or ["a", "b", ]
bool is_list_of_texts(Tokens::const_iterator begin, Tokens::const_iterator end) {
  if (end - begin < 2 || !begin->is("[") || !(end - 1)->is("]")) return false;
  return std::all_of(begin + 1, end - 1, [](const ScriptToken& token) {
    return token.kind == ScriptTokenKind::kText || token.is(",");
  });
}

/// A statement in the body of a class that is no method.
bool is_attribute(const Tokens& t) {
  const auto at = [&](std::size_t i) { return t.begin() + static_cast<std::ptrdiff_t>(i); };
  if (t.size() == 1) return t[0].is_name("pass");
  if (t[0].kind != ScriptTokenKind::kName || t.size() < 3) return false;
  if (t[0].is_name("__parameters__") || t[0].is_name("__buffers__"))
    return t[1].is("=") && is_list_of_texts(at(2), t.end());
  if (t[0].is_name("__annotations__"))
    return (t[1].is("=") && is_list_of_texts(at(2), t.end())) ||
           (t.size() > 5 && t[1].is("[") && t[2].kind == ScriptTokenKind::kText && t[3].is("]") &&
            t[4].is("=") && is_type(at(5), t.end()));
  if (!t[1].is(":")) return false;
  const std::size_t equals = assignment_in(t);
  if (equals == 0) return is_type(at(2), t.end());
  return t[2].is_name("Final") && t[3].is("[") && is_type(at(2), at(equals)) &&
         equals + 1 < t.size() && std::all_of(at(equals + 1), t.end(), is_literal);
}

void check_loops(const Tokens& tokens, const ScriptPlace& place) {
  if (tokens[0].is_name("for") && (tokens.size() < 5 || !tokens[2].is_name("in") ||
                                   !tokens[3].is_name("range") || !tokens[4].is("(")))
    place.fail(tokens[0].line,
               "a loop over something else than range(), which PyTorch never "
               "writes");
  for (std::size_t i = 1; i < tokens.size(); ++i)
    if (tokens[i].is_name("for") || tokens[i].is_name("while"))
      place.fail(tokens[i].line, "a loop inside of an expression, which PyTorch never writes");
}

/// LibTorch takes the first of the types in "Optional[]" without asking whether there is one.
void check_subscripts(const Tokens& tokens, const ScriptPlace& place) {
  static const std::set<std::string_view> before_lists{"return", "if", "else", "in"};
  for (std::size_t i = 1; i + 1 < tokens.size(); ++i) {
    const ScriptToken& before = tokens[i - 1];
    const bool holder = before.kind == ScriptTokenKind::kName ? before_lists.count(before.text) == 0
                                                              : before.is(")") || before.is("]");
    if (holder && tokens[i].is("[") && tokens[i + 1].is("]"))
      place.fail(before.line, "empty brackets after a name, which PyTorch never writes");
  }
}

/// A name that the file defines.
bool is_global(const ScriptToken& token) {
  return token.is_name("__torch__");
}

/// LibTorch compares types by functions that call themselves twice for each level.
void check_types(const Tokens& tokens, const ScriptPlace& place) {
  static const std::set<std::string_view> holders{"List", "Tuple", "Dict", "Optional", "Union"};
  constexpr int kMaxDepth = 5;  // 2
  std::vector<bool> open;       // brackets; true: behind one of these
  int depth = 0;
  for (std::size_t i = 1; i < tokens.size(); ++i) {
    if (tokens[i].is("[")) {
      open.push_back(holders.count(tokens[i - 1].text) > 0);
      depth += open.back() ? 1 : 0;
    } else if (tokens[i].is("]") && !open.empty()) {
      depth -= open.back() ? 1 : 0;
      open.pop_back();
    }
    if (depth > kMaxDepth)
      place.fail(tokens[i].line, "a type that is nested deeper than that of any network");
  }
}

/// Classes that are no modules.
void check_class(const Tokens& tokens, const ScriptPlace& place) {
  if (tokens.size() > 3 && tokens[3].is_name("Enum"))
    place.fail(tokens[0].line,
               "an Enum, which is not supported; keep its value as a number or text");
}

/// LibTorch's time grows with their square: 16 s for 16 000 arguments with defaults.
void check_arguments(const Tokens& tokens, const ScriptPlace& place) {
  const auto commas = std::count_if(tokens.begin(), tokens.end(),
                                    [](const ScriptToken& token) { return token.is(","); });
  if (commas > kMaxArguments)
    place.fail(tokens[0].line, "a function of more arguments than any network's");
}

/// Behind every '=' in the head of a method or function, to the comma or bracket that ends it.
void check_defaults(const Tokens& tokens, const ScriptPlace& place) {
  int depth = 0, inside = 0;  // inside: the depth of a default, 0 outside of one
  for (const ScriptToken& token : tokens) {
    if (inside > 0 && depth <= inside && (token.is(",") || token.is(")"))) inside = 0;
    if (inside > 0 && !is_literal(token))
      place.fail(token.line,
                 "the default of an argument is no literal; LibTorch would compute it "
                 "while it reads the file");
    if (token.is("(") || token.is("[") || token.is("{")) ++depth;
    if (token.is(")") || token.is("]") || token.is("}")) --depth;
    if (token.is("=")) inside = depth;
  }
}

}  // namespace

std::size_t assignment_in(const Tokens& tokens) {
  int depth = 0;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i].is("(") || tokens[i].is("[") || tokens[i].is("{")) ++depth;
    if (tokens[i].is(")") || tokens[i].is("]") || tokens[i].is("}")) --depth;
    if (tokens[i].is("=") && depth == 0) return i;
  }
  return 0;
}

void check_script_forms(const std::vector<ScriptStatement>& statements, const ScriptPlace& place) {
  bool in_class = false, in_tuple = false;
  for (const ScriptStatement& statement : statements) {
    const Tokens& tokens = statement.tokens;
    if (statement.indent == 0) {
      in_class = tokens[0].is_name("class");
      in_tuple = in_class && tokens.size() > 3 && tokens[3].is_name("NamedTuple");
      if (in_class) check_class(tokens, place);
    }
    if (in_tuple && statement.indent > 0 && std::any_of(tokens.begin(), tokens.end(), is_global))
      place.fail(tokens[0].line, "a class inside of a NamedTuple, which is not supported");
    if (tokens[0].text.substr(0, 10) == "__forward_")
      place.fail(tokens[0].line, "hooks of modules are refused; remove them before torch.jit.save");
    check_loops(tokens, place);
    check_subscripts(tokens, place);
    check_types(tokens, place);
    if (tokens[0].is_name("def")) {
      check_arguments(tokens, place);
      check_defaults(tokens, place);
    } else if (in_class && statement.indent == 1 && !is_attribute(tokens)) {
      place.fail(tokens[0].line, "no attribute of a class as PyTorch writes it");
    }
  }
}

}  // namespace sentinel
