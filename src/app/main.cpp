#include <fmt/chrono.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "app/command.hpp"
#include "app/print.hpp"
#include "app/resolved_options.hpp"
#include "app/seed_command.hpp"
#include "app/transcript.hpp"
#include "sentinel/core/failure.hpp"
#include "sentinel/core/log.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/core/stop.hpp"

namespace sentinel {
namespace {

struct Subcommand {
  std::unique_ptr<Command> command;
  CLI::App* app = nullptr;
};

std::vector<Subcommand> add_subcommands(CLI::App& root) {
  std::vector<Subcommand> all;
  for (std::unique_ptr<Command>& command : all_commands()) {
    CLI::App* app = command->add_to(root);
    all.push_back({std::move(command), app});
  }
  return all;
}

std::string quoted(std::string word) {
  constexpr auto plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./=:,+-";
  if (!word.empty() && word.find_first_not_of(plain) == std::string::npos) return word;
  for (std::size_t at = 0; (at = word.find('\'', at)) != std::string::npos; at += 4)
    word.replace(at, 1, "'\\''");
  return "'" + word + "'";
}

/// The command line as a shell would take it again.
std::string command_line(const std::string& program, const std::vector<std::string>& words) {
  std::string line = quoted(program);
  for (const std::string& word : words) line += " " + quoted(word);
  return line;
}

/// CLI11 says of an unknown subcommand only that one is required.
std::string usage_message(const CLI::App& root, const CLI::ParseError& error) {
  const std::vector<std::string> unknown = root.remaining();
  const bool nameless = dynamic_cast<const CLI::RequiredError*>(&error) && !unknown.empty();
  const std::vector<CLI::App*> used = root.get_subcommands();
  const std::string command = used.empty() ? "" : used.front()->get_name() + " ";
  return (nameless ? "unknown subcommand or option: " + unknown.front()
                   : std::string(error.what())) +
         " (sentinelnn " + command + "--help lists what there is)";
}

/// The text of --help or --version.
void print_help(const CLI::App& root, const CLI::ParseError& asked) {
  std::ostringstream text;
  root.exit(asked, text, text);
  say_lines(text.str());
}

/// Runs the subcommand that the words after the program's name begin with.
ExitCode run_subcommand(const Comm& comm, const std::string& program,
                        const std::vector<std::string>& words) {
  CLI::App root{
      "Finds out which channels of a CNN matter when bits flip, hardens them, and measures by "
      "fault injection\n"
      "how much it helps. Runs alone or under mpirun/srun.",
      "sentinelnn"};
  root.set_version_flag("--version", std::string("sentinelnn ") + version());
  std::string job_file;
  root.add_option("--job", job_file,
                  "Options from a TOML file, one table per subcommand; flags win over it");
  root.require_subcommand(1);
  root.fallthrough();
  std::vector<Subcommand> subcommands = add_subcommands(root);
  // Subcommands would inherit it.
  root.footer(
      "The original's options work too: sentinelnn --model=M --dataset=D ... (docs/methods.md)");
  // CLI11 would take the next option for the values of an empty list.
  for (std::size_t i = 1; i < words.size(); ++i)
    if (!words[i].empty() && words[i].find_first_not_of(',') == std::string::npos)
      throw SharedError(ExitCode::kUsage, words[i - 1] + " " + words[i] + ": the list is empty");
  try {
    root.parse(std::vector<std::string>(words.rbegin(), words.rend()));  // as CLI11 wants them
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() != 0) throw SharedError(ExitCode::kUsage, usage_message(root, error));
    if (comm.rank() == 0) print_help(root, error);
    return ExitCode::kDone;
  } catch (const UserError& error) {  // of a word that an option does not know
    throw SharedError(ExitCode::kUsage, error.what());
  }
  for (Subcommand& subcommand : subcommands) {
    if (!subcommand.app->parsed()) continue;
    if (!job_file.empty()) apply_job_file(comm, job_file, root, *subcommand.app);
    return subcommand.command->run(
        {comm, command_line(program, words), resolved_options(*subcommand.app)});
  }
  throw Bug("no subcommand ran");
}

/// Runs the steps one by one as if each had been typed; the first that does not end well is the
/// last.
ExitCode run_steps(const Comm& comm, const std::string& program, const SeedCommand& seed) {
  for (const auto& step : seed.steps) {
    if (comm.rank() == 0) {
      say("+ {}\n", command_line("sentinelnn", step));
      flush_output();
    }
    const ExitCode code = run_subcommand(comm, program, step);
    if (code != ExitCode::kDone) return code;
  }
  return ExitCode::kDone;
}

/// Where rank 0 keeps what is printed, begun with the date and the command line.
void begin_transcript(std::optional<Transcript>& transcript, const SeedCommand& seed,
                      const std::string& command) {
  std::error_code error;
  std::filesystem::create_directories(seed.folder, error);
  if (error)
    throw EnvironmentError("cannot make the folder " + seed.folder + ": " + error.message());
  transcript.emplace(seed.log);
  const std::time_t now = std::time(nullptr);
  transcript->add(fmt::format("{:%Y-%m-%d %H:%M:%S} {}", fmt::localtime(now), command));
  for (const std::string& note : seed.notes) say("note: {}\n", note);
}

ExitCode run_seed_command(const Comm& comm, const std::string& program,
                          const std::vector<std::string>& words) {
  SeedCommand seed;
  std::optional<Transcript> transcript;
  comm.agree([&] { seed = translate_seed_command(words); });
  comm.from_root([&] {
    begin_transcript(transcript, seed, command_line("sentinelnn", words));
    return Bytes();
  });
  try {
    return run_steps(comm, program, seed);
  } catch (const std::exception& error) {
    if (transcript) transcript->add("sentinelnn: " + printable(failure_of(error).message));
    throw;
  }
}

/// Ranks with other options would compute other rows under the same names, or wait for ever.
void require_same_command(const Comm& comm, const std::vector<std::string>& words) {
  ByteWriter writer;
  writer.text(command_line(std::string("sentinelnn ") + version(), words));
  const Bytes first = comm.from_root([&] { return writer.bytes(); });
  comm.agree([&] {
    if (writer.bytes() == first) return;
    throw UserError("rank " + std::to_string(comm.rank()) +
                    " was started with other words or by another version than rank 0; start all "
                    "ranks by one command line");
  });
}

ExitCode run_app(const Comm& comm, int argc, char** argv) {
  const std::vector<std::string> words(argv + std::min(argc, 1), argv + argc);
  const std::string program = argc > 0 ? argv[0] : "sentinelnn";
  require_same_command(comm, words);
  return is_seed_command(words) ? run_seed_command(comm, program, words)
                                : run_subcommand(comm, program, words);
}

/// The code of a run whose output may be lost. A code that says more than 0 is kept. Collective.
ExitCode code_after_output(const Comm& comm, ExitCode code) {
  comm.from_root([&] {
    const int error = lost_output();
    if (error == 0 || error == EPIPE) return Bytes();
    const std::string message =
        std::string("not everything could be printed: ") + std::strerror(error) +
        "; files that this command wrote are complete, give it another stdout";
    if (code == ExitCode::kDone) throw EnvironmentError(message);
    spdlog::error("{}", message);
    return Bytes();
  });
  return code;
}

/// Prints one line and gives the exit code. An error that only this rank knows of must end the
/// others too: they may wait for it in a message that never comes.
int report(const Comm* comm, ExitCode code, const std::string& message, bool shared) {
  const std::string line = printable(message);
  if (!comm || !shared || comm->rank() == 0) write_stderr("sentinelnn: " + line + "\n");
  if (comm && comm->size() > 1 && !shared) comm->abort(static_cast<int>(code));
  return static_cast<int>(code);
}

int guarded_main(int argc, char** argv) {
  spell_settings(option_of);
  prepare_streams();
  install_stop_handlers();
  std::optional<Comm> comm;
  const auto with = [&comm] { return comm ? &*comm : nullptr; };
  try {
    comm.emplace(Comm::world());
    setup_logging(comm->rank());
    const ExitCode code = code_after_output(*comm, run_app(*comm, argc, argv));
    // Other ranks would take it for a crash.
    if (code == ExitCode::kDone && comm->size() == 1 && lost_output() == EPIPE)
      end_by_broken_pipe();
    return static_cast<int>(code);
  } catch (const std::exception& error) {
    const Failure failure = failure_of(error);
    const bool shared = dynamic_cast<const SharedError*>(&error) != nullptr;
    return report(with(), failure.code, failure.message, shared);
  }
}

}  // namespace
}  // namespace sentinel

int main(int argc, char** argv) {
  return sentinel::guarded_main(argc, argv);
}
