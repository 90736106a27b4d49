#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace sentinel {

/// What faults did to one image: each is counted by the member of OutcomeCounts of this name.
enum class ImageOutcome : std::uint8_t { kMasked, kSdcNoncritical, kSdcCritical, kDue };

/// The images of a trial by outcome: masked + sdc_noncritical + sdc_critical + due = images
/// (docs/methods.md).
struct OutcomeCounts {
  std::uint32_t images = 0;
  std::uint32_t correct = 0;          // arg max = label; DUE counts as wrong
  std::uint32_t top5 = 0;             // label among the five largest logits; DUE counts as wrong
  std::uint32_t masked = 0;           // logits bitwise those of the fault-free run of the same path
  std::uint32_t sdc_noncritical = 0;  // all finite, arg max as fault-free, logits differ
  std::uint32_t sdc_critical = 0;     // all finite, other arg max
  std::uint32_t due = 0;              // some logit not finite
  std::uint32_t correct_argmax =
      0;  // PyTorch's arg max (NaN the largest) = label, DUE or not: the seed tool's count
};

/// THE list of these counts: calls f("correct", counts.correct) and so on for each but the images,
/// in the order of files.
template <class Counts, class F>
constexpr void each_outcome(Counts& counts, F&& f) {
  f("correct", counts.correct), f("top5", counts.top5), f("masked", counts.masked);
  f("sdc_noncritical", counts.sdc_noncritical), f("sdc_critical", counts.sdc_critical);
  f("due", counts.due), f("correct_argmax", counts.correct_argmax);
}

/// The images and the counts.
inline std::array<std::uint32_t, 8> values_of(const OutcomeCounts& counts) {
  std::array<std::uint32_t, 8> values{counts.images};
  std::size_t next = 1;
  each_outcome(counts, [&](const char*, std::uint32_t count) { values.at(next++) = count; });
  return values;
}

/// The largest difference of two counts; 0: all are equal. So many images at least had another
/// outcome.
inline std::uint32_t largest_difference(const OutcomeCounts& a, const OutcomeCounts& b) {
  const auto x = values_of(a), y = values_of(b);
  std::uint32_t largest = 0;
  for (std::size_t i = 0; i < x.size(); ++i)
    largest = std::max(largest, x[i] > y[i] ? x[i] - y[i] : y[i] - x[i]);
  return largest;
}

}  // namespace sentinel
