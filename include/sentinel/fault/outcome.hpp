#pragma once
#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "sentinel/fault/memory.hpp"

namespace sentinel {

/// Which code computed a trial. Values are part of the file format.
enum class EnginePath : std::uint8_t { kReference = 0, kFast = 1 };

/// The images of a trial by outcome: masked + sdc_noncritical + sdc_critical + due = images
/// (docs/methods.md).
struct TrialResult {
  std::uint32_t images = 0;
  std::uint32_t correct = 0;          // arg max = label; DUE counts as wrong
  std::uint32_t top5 = 0;             // label among the five largest logits; DUE counts as wrong
  std::uint32_t masked = 0;           // logits bitwise those of the fault-free run of the same path
  std::uint32_t sdc_noncritical = 0;  // all finite, arg max as fault-free, logits differ
  std::uint32_t sdc_critical = 0;     // all finite, other arg max
  std::uint32_t due = 0;              // some logit not finite
  std::uint32_t correct_argmax =
      0;  // PyTorch's arg max (NaN the largest) = label, DUE or not: the seed tool's count
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

/// PyTorch's arg max per image; -1 where some logit is not finite.
at::Tensor predictions_of(const at::Tensor& logits);

}  // namespace sentinel
