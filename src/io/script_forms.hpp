#pragma once
#include <vector>

#include "script_lexer.hpp"

namespace sentinel {

/// Statements as PyTorch writes them: no loop but over range() or while, heads of classes that are
/// lists of attributes, defaults of arguments that are literals. LibTorch computes defaults while
/// it reads a file, writes a loop over a tuple out, and crashes on odd heads. DataError elsewise.
void check_script_forms(const std::vector<ScriptStatement>& statements, const ScriptPlace& place);

/// Where a statement's left side ends: at its first '=' outside of brackets, 0 where it has none.
std::size_t assignment_in(const std::vector<ScriptToken>& tokens);

}  // namespace sentinel
