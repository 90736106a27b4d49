#pragma once
#include <cstdint>
#include <string>

#include "sentinel/comm/comm.hpp"
#include "sentinel/networks/network.hpp"
#include "sentinel/networks/selection.hpp"
#include "sentinel/transform/importance.hpp"
#include "sentinel/transform/prune.hpp"
#include "sentinel/transform/train_options.hpp"

namespace sentinel {

/// How the pruned model is made.
struct PruningJob {
  PruningPlan plan;
  std::int64_t finetune_epochs = 10;  // 0: none
  TrainOptions finetune;
  BestOn best_on = BestOn::kHeldOut;
};

/// Prunes by the scores and fine-tunes on rank 0, the other ranks wait; every rank gets rank 0's
/// result bit for bit. Reads the training images (and, to select by them, the test images) if there
/// is something to fine-tune. `reuse` as of make_hardened (hardening.hpp). Fine-tuning keeps
/// `state_file` (empty: none) after each epoch; where a stop was asked for, every rank throws a
/// SharedError with stop_code(), and the same call later goes on after the last whole epoch.
/// `report` hears of each epoch on rank 0; without it, the log does. Collective.
NamedModel make_pruned(const Comm& comm, const NamedModel& model, const ModelSelection& selection,
                       const ChannelScores& scores, const PruningJob& job, at::Device device,
                       const std::string& command, const std::string& state_file,
                       const std::string& reuse, const OnEpoch& report = {});

}  // namespace sentinel
