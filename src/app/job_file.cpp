#include <fmt/format.h>
#include <toml++/toml.h>

#include <algorithm>
#include <filesystem>

#include "app/command.hpp"
#include "app/options.hpp"
#include "sentinel/core/file.hpp"

namespace sentinel {
namespace {

[[noreturn]] void fail(const std::string& path, const toml::node& node,
                       const std::string& message) {
  throw UserError(fmt::format("{}:{}: {}", path, node.source().begin.line, message));
}

/// The longest run of dots between parts of a name: TOML makes a table within a table of each, and
/// a program that follows too many ends by a crash. Texts and comments may hold any number.
std::size_t dots_of_longest_name(std::string_view text) {
  std::size_t most = 0, dots = 0;
  char quote = 0;  // of the text that is open
  bool comment = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\n') quote = 0, comment = false, dots = 0;  // of long texts a line counts as a name's
    if (comment) continue;
    if (quote != 0) {
      if (c == '\\' && quote == '"') ++i;
      if (c == quote) quote = 0;
    } else if (c == '"' || c == '\'') {
      quote = c;
    } else if (c == '#') {
      comment = true;
    } else if (c == '=' || c == ',') {
      dots = 0;
    } else if (c == '.') {
      most = std::max(most, ++dots);
    }
  }
  return most;
}

toml::table parse(const std::string& path, std::string_view text) {
  constexpr std::size_t kMostDots = 16;  // TOML++ itself allows 256 levels of tables in values
  if (dots_of_longest_name(text) > kMostDots)
    throw UserError(
        fmt::format("{}: a key has more than {} parts with dots between them; keys of "
                    "jobs have none",
                    path, kMostDots));
  try {
    return toml::parse(text, path);
  } catch (const toml::parse_error& error) {
    throw UserError(fmt::format("{}:{}: not valid TOML: {}", path, error.source().begin.line,
                                error.description()));
  }
}

/// A scalar as CLI11 would have read it from the command line.
std::string text_of(const std::string& path, const toml::node& node) {
  if (const auto* text = node.as_string()) return text->get();
  if (const auto* number = node.as_integer()) return std::to_string(number->get());
  if (const auto* number = node.as_floating_point()) return fmt::format("{:.17g}", number->get());
  if (const auto* truth = node.as_boolean()) return truth->get() ? "true" : "false";
  fail(path, node, "a text, number, true/false or a list of them is wanted here");
}

void give(const std::string& path, const toml::node& node, CLI::Option& option) {
  try {
    if (const auto* list = node.as_array()) {
      for (const toml::node& element : *list) option.add_result(text_of(path, element));
    } else {
      option.add_result(text_of(path, node));
    }
    option.run_callback();
  } catch (const CLI::Error& error) {
    fail(path, node, error.what());
  }
}

void check_tables(const std::string& path, const toml::table& file, CLI::App& root) {
  for (const auto& [key, node] : file) {
    const std::string name(key.str());
    const auto same_name = [&](const CLI::App* app) { return app->get_name() == name; };
    if (root.get_subcommands(same_name).empty())
      fail(path, node,
           "unknown key '" + name +
               "'; options belong in a table named after a subcommand, such as [campaign]");
    if (!node.is_table()) fail(path, node, "'" + name + "' must be a table: [" + name + "]");
  }
}

/// Whether the command line says otherwise by another option: how many faults there are, or which
/// file the network is.
bool replaced(const std::string& key, const std::string& value, const CLI::App& command) {
  const auto given = [&](const char* name) {
    const CLI::Option* option = command.get_option_no_throw(name);
    return option && option->count() > 0;
  };
  if (key == "model") return given("--checkpoint") && is_network_file(value);
  // --mean NAME gives both.
  if (key == "std") return given("--mean") && command.get_option("--mean")->count() == 1;
  if (key == "checkpoint")
    return given("--model") && is_network_file(command.get_option("--model")->as<std::string>());
  // --ber alone keeps the file's fault-count.
  if (key == "fault-count" || key == "ber")
    return given("--single-bit") ||
           (key == "ber" && given("--fault-count") &&
            command.get_option("--fault-count")->as<std::string>().rfind("exact", 0) == 0);
  return key == "single-bit" && (given("--fault-count") || given("--ber"));
}

}  // namespace

void apply_job_text(const std::string& path, std::string_view text, CLI::App& root,
                    CLI::App& command) {
  const toml::table file = parse(path, text);
  check_tables(path, file, root);
  const toml::table* table = file[command.get_name()].as_table();
  if (!table) throw UserError(path + ": has no table [" + command.get_name() + "]");
  // All first: what the table gives must not look as if the command line had given it.
  std::vector<std::pair<CLI::Option*, const toml::node*>> wanted;
  for (const auto& [key, node] : *table) {
    CLI::Option* option = command.get_option_no_throw("--" + std::string(key.str()));
    if (!option || option == command.get_help_ptr())
      fail(path, node,
           fmt::format("unknown key '{}'; `sentinelnn {} --help` lists the options", key.str(),
                       command.get_name()));
    if (option->count() == 0 &&
        !replaced(std::string(key.str()), node.value_or(std::string()), command))
      wanted.emplace_back(option, &node);
  }
  for (const auto& [option, node] : wanted) give(path, *node, *option);
}

void apply_job_file(const std::string& path, CLI::App& root, CLI::App& command) {
  constexpr std::uint64_t kMostBytes = 1 << 20;
  std::error_code unknown;
  const std::uintmax_t size = std::filesystem::file_size(path, unknown);
  if (!unknown && size > kMostBytes)
    throw UserError(fmt::format("{}: has {} bytes; a job has {} at most", path, size, kMostBytes));
  const Bytes bytes = read_file(path, kMostBytes);
  apply_job_text(path, {reinterpret_cast<const char*>(bytes.data()), bytes.size()}, root, command);
}

}  // namespace sentinel
