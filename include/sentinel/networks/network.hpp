#pragma once
#include <optional>
#include <string>

#include "sentinel/core/bytes.hpp"
#include "sentinel/graph/graph.hpp"
#include "sentinel/models/model.hpp"

namespace sentinel {

/// A network with its name and where it came from.
struct NamedModel {
  std::string name;  // "unprotected", "pruned", "hardened", "bounded", "stored", "pruned+hardened",
                     // a name that the user gave, or the stem of a file where no better is known
  Graph graph;
  std::string sha256;       // of the network alone: structure and tensors, not who made it or how
  std::string file_sha256;  // of the checkpoint file, as sha256sum prints
  std::string recipe = {};  // of a pruned or hardened model made here, in words
  Bytes made = {};          // bytes of its checkpoint file, on rank 0; empty where it was read
  std::string file = {};    // that it was read from; empty where it was made here
  FileNotes notes = {};     // of the file that it was read from
};

/// For messages: its file, or "network 'hardened'".
std::string source_of(const NamedModel& model);
/// For headings: "resnet20", "resnet20 (pruned)"; a network of no architecture of ours by its file.
std::string title_of(const NamedModel& model);

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

/// The stem of a file, fit to become part of the result file's paths and lists.
std::string name_of_file(const std::string& path);

}  // namespace sentinel
