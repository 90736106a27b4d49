#pragma once
#include <memory>

#include "sentinel/campaign/job.hpp"
#include "sentinel/comm/comm.hpp"
#include "sentinel/fault/fault_list.hpp"
#include "sentinel/io/dataset.hpp"
#include "sentinel/networks/network.hpp"
#include "sentinel/transform/importance.hpp"

namespace sentinel {

/// Whether a job ranks channels.
bool needs_scores(const Job& job);

/// What every rank builds from a job.
struct Built {
  std::vector<NamedModel> models;  // the original first, then those made from it and those given
  ChannelScores scores;            // of the original; empty where nothing needed them
  Dataset images;
  std::shared_ptr<const FaultList> list = nullptr;  // in words of the original
  bool warned = false;                              // of an original that guesses
};

/// rank -> prune and fine-tune? -> rank again -> harden?, then the given networks. Collective;
/// SharedErrors, also with stop_code() where a stop was asked for while fine-tuning.
Built build(const Comm& comm, Job& job, at::Device device);

/// The same without scores, the made models read from the files that write_made left: nothing is
/// computed, so any machine gets the same bits. DataError where a file is missing. Collective.
Built reload(const Comm& comm, Job& job);

/// Where the models that a job makes are kept, for the user and for a resumed campaign. Asked
/// before the result is begun: with it, files of earlier versions count.
std::vector<std::string> made_paths(const Job& job);
/// Writes them, and lets go of their bytes. Only once the result is ours: another job's must not be
/// touched.
void write_made(const std::vector<std::string>& paths, std::vector<NamedModel>& models);

}  // namespace sentinel
