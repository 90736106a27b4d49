#include "sentinel/fault/outcome.hpp"

#include <cmath>
#include <cstring>

#include "sentinel/core/error.hpp"

namespace sentinel {
namespace {

bool all_finite(const float* logits, std::int64_t classes) {
  for (std::int64_t c = 0; c < classes; ++c)
    if (!std::isfinite(logits[c])) return false;
  return true;
}

/// PyTorch's: the first NaN is the largest, else the first maximum.
std::int64_t arg_max(const float* logits, std::int64_t classes) {
  std::int64_t best = 0;
  for (std::int64_t c = 0; c < classes; ++c) {
    if (std::isnan(logits[c])) return c;
    if (logits[c] > logits[best]) best = c;
  }
  return best;
}

/// Fewer than five logits rank before the label's: greater ones, and equal ones of lower class
/// number (PyTorch's topk leaves ties open).
bool among_five_largest(const float* logits, std::int64_t classes, std::int64_t label) {
  int before = 0;
  for (std::int64_t c = 0; c < classes; ++c)
    before += logits[c] > logits[label] || (logits[c] == logits[label] && c < label);
  return before < 5;
}

/// Logits of one image with faults and without.
ImageOutcome outcome_of(const float* now, const float* golden, std::int64_t classes) {
  if (!all_finite(now, classes)) return ImageOutcome::kDue;
  // As words: 0.0 and -0.0 count as different.
  if (std::memcmp(now, golden, static_cast<std::size_t>(classes) * sizeof(float)) == 0)
    return ImageOutcome::kMasked;
  const bool same = arg_max(now, classes) == arg_max(golden, classes);
  return same ? ImageOutcome::kSdcNoncritical : ImageOutcome::kSdcCritical;
}

std::uint32_t& count_of(OutcomeCounts& counts, ImageOutcome outcome) {
  switch (outcome) {
    case ImageOutcome::kMasked:
      return counts.masked;
    case ImageOutcome::kSdcNoncritical:
      return counts.sdc_noncritical;
    case ImageOutcome::kSdcCritical:
      return counts.sdc_critical;
    case ImageOutcome::kDue:
      return counts.due;
  }
  throw Bug("an unknown outcome of an image");
}

void check_logits(const at::Tensor& logits) {
  if (logits.dim() != 2 || !logits.is_cpu() || logits.scalar_type() != at::kFloat)
    throw Bug("logits must be [N, classes] f32 on the CPU");
}

}  // namespace

TrialResult classify(const at::Tensor& faulty, const at::Tensor& fault_free,
                     const at::Tensor& labels) {
  check_logits(faulty);
  check_logits(fault_free);
  if (faulty.sizes() != fault_free.sizes() || labels.numel() != faulty.size(0))
    throw Bug("logits and labels of a trial differ in shape");
  const at::Tensor a = faulty.contiguous(), b = fault_free.contiguous(), l = labels.contiguous();
  const std::int64_t images = a.size(0), classes = a.size(1);
  const auto* label = l.data_ptr<std::int64_t>();
  TrialResult result;
  result.images = static_cast<std::uint32_t>(images);
  for (std::int64_t i = 0; i < images; ++i) {
    const float* now = a.data_ptr<float>() + i * classes;
    const float* golden = b.data_ptr<float>() + i * classes;
    if (label[i] < 0 || label[i] >= classes) throw Bug("a label is not a class of the model");
    const std::int64_t top = arg_max(now, classes);
    result.correct_argmax += top == label[i];
    const ImageOutcome outcome = outcome_of(now, golden, classes);
    ++count_of(result, outcome);
    if (outcome == ImageOutcome::kDue) continue;
    result.correct += top == label[i];
    result.top5 += among_five_largest(now, classes, label[i]);
  }
  return result;
}

void give_outcomes(std::vector<FaultRecord>& faults, const at::Tensor& faulty,
                   const at::Tensor& fault_free, std::int64_t first_image) {
  check_logits(faulty);
  check_logits(fault_free);
  const at::Tensor a = faulty.contiguous(), b = fault_free.contiguous();
  const std::int64_t classes = a.size(1);
  for (FaultRecord& fault : faults) {
    if (fault.site.image == kAllImages) continue;
    const std::int64_t row = fault.site.image - first_image;
    if (row < 0 || row >= a.size(0)) throw Bug("a fault of an image that the trial does not see");
    fault.outcome = outcome_of(a.data_ptr<float>() + row * classes,
                               b.data_ptr<float>() + row * classes, classes);
  }
}

at::Tensor predictions_of(const at::Tensor& logits) {
  check_logits(logits);
  const at::Tensor rows = logits.contiguous();
  const std::int64_t images = rows.size(0), classes = rows.size(1);
  at::Tensor predictions = at::empty({images}, at::kLong);
  for (std::int64_t i = 0; i < images; ++i) {
    const float* row = rows.data_ptr<float>() + i * classes;
    predictions.data_ptr<std::int64_t>()[i] = all_finite(row, classes) ? arg_max(row, classes) : -1;
  }
  return predictions;
}

}  // namespace sentinel
