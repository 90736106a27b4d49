#pragma once
#include <string>
#include <vector>

namespace sentinel {

/// What a command line of the seed tool (the original SentinelNN in Python) comes to here.
struct SeedCommand {
  std::string folder;                           // "resnet20-cifar10", where its outputs go
  std::string log;                              // file in it that keeps what is printed
  std::vector<std::string> notes;               // what is not as it was there, a line each
  std::vector<std::vector<std::string>> steps;  // subcommands and their options, one by one
};

/// Whether the words after the program's name are in the seed tool's form: its options, and no
/// subcommand before them.
bool is_seed_command(const std::vector<std::string>& words);

/// The subcommands that do what the seed tool's README says of these options. Touches no file.
/// UserError for unknown options, ones that lack their partner and ones that contradict each other.
SeedCommand translate_seed_command(const std::vector<std::string>& words);

}  // namespace sentinel
