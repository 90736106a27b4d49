#pragma once
#include <string>
#include <vector>

#include "sentinel/campaign/job.hpp"

namespace sentinel {

/// A network that a campaign makes.
struct MadeNetwork {
  std::string steps;  // "pruned", "hardened", "bounded", "pruned+hardened", "pruned+bounded"
  std::string path;   // where it is kept
  bool of_pruned = false;
};
/// In the order in which they are injected.
std::vector<MadeNetwork> made_networks(const Job& job);

/// A word of Job::also: FILE, or NAME=FILE where no file is called so.
struct GivenNetwork {
  std::string name, path;
};
/// On rank 0, where the files are. UserError for names that are none, are taken or come twice.
std::vector<GivenNetwork> given_networks(const Job& job);

}  // namespace sentinel
