#pragma once
#include <CLI/CLI.hpp>
#include <string>

namespace sentinel {

/// Every option of a subcommand that has a value and that no given one excludes, as the table of a
/// job file that --job takes: what it gives an option is what the command line gave, whatever the
/// text is like. (A text that is no UTF-8, as a file's name may be, is written as {hex="..."}.)
std::string resolved_options(const CLI::App& command);

/// A given option that excludes this one; null without.
const CLI::Option* excluding(const CLI::Option& option);

}  // namespace sentinel
