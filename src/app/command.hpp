#pragma once
#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "sentinel/comm/comm.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/core/setting.hpp"

namespace sentinel {

/// What a subcommand is told beside its options.
struct Context {
  const Comm& comm;
  std::string command;   // the command line
  std::string resolved;  // every option of the subcommand with its value, as TOML
};

/// One subcommand: its options and what it does.
class Command {
 public:
  virtual ~Command() = default;
  /// Adds the subcommand with its options.
  virtual CLI::App* add_to(CLI::App& parent) = 0;
  /// Runs on every rank; prints on rank 0 only.
  virtual ExitCode run(const Context& context) = 0;
};

std::unique_ptr<Command> make_bench();
std::unique_ptr<Command> make_campaign();
std::unique_ptr<Command> make_evaluate();
std::unique_ptr<Command> make_export();
std::unique_ptr<Command> make_harden();
std::unique_ptr<Command> make_inject();
std::unique_ptr<Command> make_inspect();
std::unique_ptr<Command> make_merge();
std::unique_ptr<Command> make_plan();
std::unique_ptr<Command> make_profile();
std::unique_ptr<Command> make_protect();
std::unique_ptr<Command> make_prune();
std::unique_ptr<Command> make_rank();
std::unique_ptr<Command> make_replay();
std::unique_ptr<Command> make_summarize();
std::unique_ptr<Command> make_synth();
std::unique_ptr<Command> make_train();
std::unique_ptr<Command> make_vulnerability();

/// One of each, as the help lists them.
std::vector<std::unique_ptr<Command>> all_commands();

/// The option that sets it, such as "--half-width": how the program's messages name settings.
std::string option_of(Setting setting);

/// Gives the options of a subcommand the values of its table in a job file, where the command line
/// gave none. Rank 0 reads the file. Throws UserError naming file and line for what does not fit.
void apply_job_file(const Comm& comm, const std::string& path, CLI::App& root, CLI::App& command);
/// The same for the text of a job file; `source` stands for its path in messages, and `helps` for
/// the command lines that list the options (empty: the command's own help).
void apply_job_text(const std::string& source, std::string_view text, CLI::App& root,
                    CLI::App& command, const std::string& helps = "");
/// The text of a job file, read by rank 0. Collective; SharedErrors.
std::string read_job_text(const Comm& comm, const std::string& path);
/// The names of a job file's tables, as they follow each other. UserError where it has other keys.
std::vector<std::string> tables_of(const std::string& source, std::string_view text);

}  // namespace sentinel
