#include <algorithm>
#include <cstring>

#include "fault/weights.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/fault/trial_engine.hpp"

namespace sentinel {
namespace {

/// Where the element with this row-major number lies, in elements from the tensor's first: the
/// memory format (channels_last) must not move a fault.
std::int64_t offset_of(const at::Tensor& tensor, std::uint64_t element) {
  auto rest = static_cast<std::int64_t>(element);
  std::int64_t offset = 0;
  for (std::int64_t d = tensor.dim() - 1; d >= 0; --d) {
    offset += rest % tensor.size(d) * tensor.stride(d);
    rest /= tensor.size(d);
  }
  return offset;
}

std::uint32_t load_word(const at::Tensor& tensor, std::int64_t offset) {
  std::uint32_t word = 0;
  if (tensor.is_cpu()) {
    std::memcpy(&word, tensor.data_ptr<float>() + offset, sizeof word);
    return word;
  }
  const at::Tensor words = tensor.detach().view(at::kInt);
  return static_cast<std::uint32_t>(
      words.as_strided({1}, {1}, words.storage_offset() + offset).item<std::int32_t>());
}

void store_word(const at::Tensor& tensor, std::int64_t offset, std::uint32_t word) {
  if (tensor.is_cpu()) {
    std::memcpy(tensor.data_ptr<float>() + offset, &word, sizeof word);
    return;
  }
  const at::Tensor words = tensor.detach().view(at::kInt);
  words.as_strided({1}, {1}, words.storage_offset() + offset)
      .fill_(static_cast<std::int32_t>(word));
}

std::vector<float> numbers(const at::Tensor& bounds) {
  const at::Tensor flat = bounds.to(at::kCPU).contiguous();
  return {flat.data_ptr<float>(), flat.data_ptr<float>() + flat.numel()};
}

}  // namespace

std::vector<ReadRange> take_weight_bounds(Graph& graph, const FaultSpace& space) {
  std::vector<ReadRange> ranges;
  for (const FaultTensor& tensor : space.tensors()) {
    ReadRange& range = ranges.emplace_back();
    WeightBounds& bounds = *weight_bounds_of(graph[tensor.node].op);
    if (!bounds.low.defined()) continue;
    range.low = numbers(bounds.low);
    range.high = numbers(bounds.high);
    range.row = tensor.elements / range.low.size();
    bounds = {};
  }
  return ranges;
}

FaultGuard::FaultGuard(Graph& graph, const FaultSpace& space, const Faults& faults,
                       const std::vector<ReadRange>& ranges)
    : graph_(graph), space_(space) {
  for (std::size_t i = 0; i < faults.size(); ++i) {
    space.index(faults[i]);  // throws where there is no such bit, before anything is flipped
    if (i > 0 && !(faults[i - 1] < faults[i])) throw Bug("faults are not sorted and distinct");
  }
  records_.reserve(faults.size());
  for (const FaultSite& site : faults) flip(records_.emplace_back(FaultRecord{site, 0, 0}));
  // Only now: a word may have several flips.
  if (ranges.empty()) return;
  for (const FaultRecord& record : records_) decode(record, ranges.at(record.site.tensor));
}

FaultGuard::~FaultGuard() {
  // Backwards: of several flips of a word the first knows the word without faults.
  for (auto record = records_.rbegin(); record != records_.rend(); ++record)
    store(record->site, record->before);
}

void FaultGuard::flip(FaultRecord& record) const {
  const at::Tensor& weight = *weight_of(graph_[space_.tensors()[record.site.tensor].node].op);
  record.before = load_word(weight, offset_of(weight, record.site.element));
  record.after = record.before ^ 1u << record.site.bit;
  store(record.site, record.after);
}

void FaultGuard::decode(const FaultRecord& record, const ReadRange& range) const {
  if (range.low.empty()) return;
  const at::Tensor& weight = *weight_of(graph_[space_.tensors()[record.site.tensor].node].op);
  const std::uint32_t word = load_word(weight, offset_of(weight, record.site.element));
  float value = 0;
  std::memcpy(&value, &word, sizeof value);
  const auto row = static_cast<std::size_t>(record.site.element / range.row);
  // A comparison with NaN is false.
  if (!(value >= range.low[row] && value <= range.high[row])) store(record.site, 0);
}

void FaultGuard::store(const FaultSite& site, std::uint32_t word) const {
  const at::Tensor& weight = *weight_of(graph_[space_.tensors()[site.tensor].node].op);
  store_word(weight, offset_of(weight, site.element), word);
}

}  // namespace sentinel
