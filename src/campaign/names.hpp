#pragma once
#include <optional>
#include <string>
#include <vector>

#include "sentinel/campaign/job.hpp"
#include "sentinel/graph/graph.hpp"

namespace sentinel {

// What networks are called in tables, results and file names.

/// What was done to a network, by its structure: "pruned" (channels are gone), "hardened" (copies
/// or activation bounds) or "bounded" (weight bounds alone), joined by "+"; empty: nothing.
std::string steps_of(const Graph& graph);
/// "pruned" and "hardened" -> "pruned+hardened"; empty ones leave no trace.
std::string joined_steps(const std::string& first, const std::string& then);
/// The name of a network read from `path`: its steps, else "unprotected", or the stem of its file
/// where its architecture is not one of ours.
std::string name_of(const Graph& graph, const std::string& path);

/// The history of a network that a campaign may protect, whatever format it is stored in: "" or
/// "pruned". Nothing where it is protected already, be it by a code.
std::optional<std::string> steps_before_protection(const Graph& graph);
/// The name of such a network in its campaign, beside those that are stored by it.
std::string name_before_protection(const Graph& graph, const std::string& path);

/// A network that a campaign makes.
struct MadeNetwork {
  std::string steps;  // "pruned", "hardened", "bounded", "pruned+hardened", "pruned+bounded"
  std::string path;   // where it is kept
  bool of_pruned = false;
};
/// In the order in which they are injected.
std::vector<MadeNetwork> made_networks(const Job& job);

/// What --also says: FILE, or NAME=FILE where no file is called so.
struct GivenNetwork {
  std::string name, path;
};
/// On rank 0, where the files are. UserError for names that are none, are taken or come twice.
std::vector<GivenNetwork> given_networks(const Job& job);

}  // namespace sentinel
