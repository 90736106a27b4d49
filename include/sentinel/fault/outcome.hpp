#pragma once
#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "sentinel/core/engine_path.hpp"
#include "sentinel/core/outcome_counts.hpp"
#include "sentinel/fault/memory.hpp"

namespace sentinel {

struct TrialResult : OutcomeCounts {
  std::int32_t first_node = -1;  // first faulty node, -1: no fault
  EnginePath path = EnginePath::kFast;
};

struct TrialOutcome {
  TrialResult result;
  std::vector<FaultRecord> faults;  // all, or none where there are more than are kept
  std::uint32_t n_faults = 0;
  std::uint32_t masked = 0;                          // faults that left their word as it was
  std::uint32_t words_wrong = 0, words_flagged = 0;  // as in Reading
  double seconds = 0;  // of wall time; trials that ran together share theirs equally
};

/// Fault-free outputs of the reference path.
struct Golden {
  at::Tensor logits;       // [N, classes] f32, CPU
  at::Tensor predictions;  // [N] i64, CPU
  std::int64_t correct = 0, top5 = 0;
};

/// Logits of one trial, for tests, audit and replay.
struct TrialLogits {
  at::Tensor logits;       // [N, classes] f32, CPU
  at::Tensor predictions;  // [N] i64, CPU; -1 = DUE
  TrialResult result = {};
};

/// Outcome classes of the images given faulty and fault-free logits of the same path [N, classes]
/// (CPU f32) and labels [N].
TrialResult classify(const at::Tensor& faulty, const at::Tensor& fault_free,
                     const at::Tensor& labels);

/// Tells each fault that one image alone sees that image's outcome. Logits as for classify(), of the
/// images from `first_image` on.
void give_outcomes(std::vector<FaultRecord>& faults, const at::Tensor& faulty,
                   const at::Tensor& fault_free, std::int64_t first_image);

/// PyTorch's arg max per image; -1 where some logit is not finite.
at::Tensor predictions_of(const at::Tensor& logits);

}  // namespace sentinel
