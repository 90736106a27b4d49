#include <c10/util/Exception.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "app/command.hpp"
#include "sentinel/core/log.hpp"

namespace sentinel {
namespace {

struct Subcommand {
  std::unique_ptr<Command> command;
  CLI::App* app = nullptr;
};

std::vector<Subcommand> add_subcommands(CLI::App& root) {
  std::vector<Subcommand> all;
  for (auto make :
       {make_evaluate, make_profile, make_rank, make_harden, make_inject, make_campaign, make_train,
        make_export, make_synth, make_summarize, make_inspect, make_bench}) {
    Subcommand subcommand{make(), nullptr};
    subcommand.app = subcommand.command->add_to(root);
    all.push_back(std::move(subcommand));
  }
  return all;
}

/// The command line as a shell would take it again.
std::string quoted(int argc, char** argv) {
  constexpr auto plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./=:,+-";
  std::string line;
  for (int i = 0; i < argc; ++i) {
    std::string word = argv[i];
    if (word.empty() || word.find_first_not_of(plain) != std::string::npos) {
      for (std::size_t at = 0; (at = word.find('\'', at)) != std::string::npos; at += 4)
        word.replace(at, 1, "'\\''");
      word = "'" + word + "'";
    }
    line += (i ? " " : "") + word;
  }
  return line;
}

/// Every option that has a value, as a table that --job takes.
std::string resolved_table(const CLI::App& app) {
  std::istringstream lines(app.config_to_str(true, false));
  std::string table = "[" + app.get_name() + "]\n";
  for (std::string line; std::getline(lines, line);) {
    const std::size_t equals = line.find('=');
    const std::string value = equals == std::string::npos ? "" : line.substr(equals + 1);
    if (!value.empty() && value != "\"\"" && value != "[]") table += line + "\n";
  }
  return table;
}

/// CLI11 says of an unknown subcommand only that one is required.
std::string usage_message(const CLI::App& root, const CLI::ParseError& error) {
  const std::vector<std::string> unknown = root.remaining();
  const bool nameless = dynamic_cast<const CLI::RequiredError*>(&error) && !unknown.empty();
  return (nameless ? "unknown subcommand or option: " + unknown.front()
                   : std::string(error.what())) +
         " (sentinelnn --help lists what there is)";
}

ExitCode run_app(const Comm& comm, int argc, char** argv) {
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
  try {
    root.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() != 0) throw SharedError(ExitCode::kUsage, usage_message(root, error));
    if (comm.rank() == 0) root.exit(error);
    return ExitCode::kDone;
  }
  for (Subcommand& subcommand : subcommands) {
    if (!subcommand.app->parsed()) continue;
    if (!job_file.empty()) comm.agree([&] { apply_job_file(job_file, root, *subcommand.app); });
    return subcommand.command->run({comm, quoted(argc, argv), resolved_table(*subcommand.app)});
  }
  throw Bug("no subcommand ran");
}

/// One line of valid UTF-8 without control characters: messages quote files, which may be hostile.
std::string printable(std::string message) {
  std::replace(message.begin(), message.end(), '\n', ' ');
  const auto plain = [](char c) { return c >= 0x20 && c < 0x7F; };
  if (std::all_of(message.begin(), message.end(), plain)) return message;
  const std::string quoted =
      nlohmann::json(message).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return quoted.substr(1, quoted.size() - 2);
}

/// Prints one line and gives the exit code. An error that only this rank knows of must end the
/// others too: they may wait for it in a message that never comes.
int report(const Comm* comm, ExitCode code, const std::string& message, bool shared) {
  const std::string line = printable(message);
  if (!comm || !shared || comm->rank() == 0) fmt::print(stderr, "sentinelnn: {}\n", line);
  if (comm && comm->size() > 1 && !shared) {
    std::fflush(stderr);
    comm->abort(static_cast<int>(code));
  }
  return static_cast<int>(code);
}

int guarded_main(int argc, char** argv) {
  std::optional<Comm> comm;
  const auto with = [&comm] { return comm ? &*comm : nullptr; };
  try {
    comm.emplace(Comm::world());
    setup_logging(comm->rank());
    return static_cast<int>(run_app(*comm, argc, argv));
  } catch (const SharedError& error) {
    return report(with(), error.code(), error.what(), true);
  } catch (const Error& error) {
    return report(with(), error.code(), error.what(), false);
  } catch (const c10::OutOfMemoryError& error) {
    return report(with(), ExitCode::kEnvironment,
                  std::string("out of device memory: ") + error.what_without_backtrace(), false);
  } catch (const std::bad_alloc&) {
    return report(with(), ExitCode::kEnvironment,
                  "out of memory; use fewer images, ranks or a smaller --cache-budget", false);
  } catch (const std::exception& error) {
    return report(with(), ExitCode::kBug, std::string("bug, please report: ") + error.what(),
                  false);
  }
}

}  // namespace
}  // namespace sentinel

int main(int argc, char** argv) {
  return sentinel::guarded_main(argc, argv);
}
