#include <fmt/format.h>
#include <toml++/toml.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "app/command.hpp"
#include "app/options.hpp"
#include "app/resolved_options.hpp"
#include "sentinel/core/file.hpp"

namespace sentinel {
namespace {

[[noreturn]] void fail(const std::string& path, const toml::node& node,
                       const std::string& message) {
  throw UserError(fmt::format("{}:{}: {}", path, node.source().begin.line, message));
}

/// Dots that may part names: TOML makes a table within a table of each, and a program that follows
/// too many ends by a crash. Those of texts and comments count too, for only a whole parser can
/// tell which they are; a row of dots counts once.
std::size_t parting_dots(std::string_view text) {
  std::size_t dots = 0;
  for (std::size_t i = 1; i < text.size(); ++i) dots += text[i] == '.' && text[i - 1] != '.';
  return dots;
}

toml::table parse(const std::string& path, std::string_view text) {
  constexpr std::size_t kMostDots = 10000;  // 50000 are a crash
  if (parting_dots(text) > kMostDots)
    throw UserError(
        fmt::format("{}: has more than {} dots; names of jobs have none, and no job has so many "
                    "files or numbers",
                    path, kMostDots));
  try {
    return toml::parse(text, path);
  } catch (const toml::parse_error& error) {
    throw UserError(fmt::format("{}:{}: not valid TOML: {}", path, error.source().begin.line,
                                error.description()));
  }
}

/// The bytes that {hex="..."} stands for.
std::string bytes_of(const std::string& path, const toml::table& table) {
  const auto hex = table["hex"].value<std::string>();
  if (!hex || table.size() != 1 || hex->size() % 2 != 0 ||
      hex->find_first_not_of("0123456789abcdef") != std::string::npos)
    fail(path, table, "a text of any bytes is written as {hex=\"6e6574\"}, two digits each");
  std::string bytes;
  for (std::size_t at = 0; at < hex->size(); at += 2)
    bytes += static_cast<char>(std::stoi(hex->substr(at, 2), nullptr, 16));
  return bytes;
}

/// A scalar as CLI11 would have read it from the command line.
std::string scalar_of(const std::string& path, const toml::node& node) {
  if (const auto* text = node.as_string()) return text->get();
  if (const auto* number = node.as_integer()) return std::to_string(number->get());
  if (const auto* number = node.as_floating_point()) return fmt::format("{:.17g}", number->get());
  if (const auto* truth = node.as_boolean()) return truth->get() ? "true" : "false";
  if (const auto* table = node.as_table()) return bytes_of(path, *table);
  fail(path, node, "a text, number, true/false or a list of them is wanted here");
}

std::string text_of(const std::string& path, const toml::node& node) {
  std::string text = scalar_of(path, node);
  if (text.find('\0') != std::string::npos)
    fail(path, node, "this text has a NUL character, which no option takes");
  return text;
}

/// The values that a key has; a list has several.
std::vector<std::string> texts_of(const std::string& path, const toml::node& node) {
  const auto* list = node.as_array();
  if (!list) return {text_of(path, node)};
  if (list->empty()) fail(path, node, "an empty list says nothing; leave the key out");
  std::vector<std::string> texts;
  for (const toml::node& element : *list) texts.push_back(text_of(path, element));
  return texts;
}

void give(const std::string& path, const toml::node& node, CLI::Option& option) {
  const std::vector<std::string> texts = texts_of(path, node);
  try {
    for (const std::string& text : texts) option.add_result(text);
    option.run_callback();
  } catch (const CLI::Error& error) {
    fail(path, node, error.what());
  } catch (const UserError& error) {  // of a word
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
  if (excluding(*command.get_option("--" + key))) return true;
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

std::vector<std::string> tables_of(const std::string& path, std::string_view text) {
  const toml::table file = parse(path, text);
  std::vector<std::pair<toml::source_index, std::string>> lines;
  for (const auto& [key, node] : file) {
    if (!node.is_table()) fail(path, node, "'" + std::string(key.str()) + "' must be a table");
    lines.emplace_back(key.source().begin.line, std::string(key.str()));
  }
  std::sort(lines.begin(), lines.end());
  std::vector<std::string> names;
  for (auto& [line, name] : lines) names.push_back(std::move(name));
  return names;
}

void apply_job_text(const std::string& path, std::string_view text, CLI::App& root,
                    CLI::App& command, const std::string& helps) {
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
           fmt::format("unknown key '{}'; {} lists the options", key.str(),
                       helps.empty() ? "`sentinelnn " + command.get_name() + " --help`" : helps));
    if (option->count() == 0 &&
        !replaced(std::string(key.str()), node.is_array() ? "" : text_of(path, node), command))
      wanted.emplace_back(option, &node);
  }
  for (const auto& [option, node] : wanted) {
    give(path, *node, *option);
    if (const CLI::Option* other = excluding(*option))
      fail(path, *node,
           fmt::format("'{}' and '{}' exclude each other; give one", option->get_single_name(),
                       other->get_single_name()));
  }
}

std::string read_job_text(const Comm& comm, const std::string& path) {
  constexpr std::uint64_t kMostBytes = 1 << 20;
  const Bytes bytes = comm.from_root([&] {
    std::error_code unknown;
    const std::uintmax_t size = std::filesystem::file_size(path, unknown);
    if (!unknown && size > kMostBytes)
      throw UserError(
          fmt::format("{}: has {} bytes; a job has {} at most", path, size, kMostBytes));
    return read_file(path, kMostBytes);
  });
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void apply_job_file(const Comm& comm, const std::string& path, CLI::App& root, CLI::App& command) {
  const std::string text = read_job_text(comm, path);
  comm.agree([&] { apply_job_text(path, text, root, command); });
}

}  // namespace sentinel
