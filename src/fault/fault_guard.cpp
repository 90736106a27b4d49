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

/// XORs one word; returns the word before.
std::uint32_t flip_on_cpu(const at::Tensor& tensor, std::int64_t offset, std::uint32_t mask) {
  float* value = tensor.data_ptr<float>() + offset;
  std::uint32_t word = 0;
  std::memcpy(&word, value, sizeof word);
  const std::uint32_t flipped = word ^ mask;
  std::memcpy(value, &flipped, sizeof flipped);
  return word;
}

std::uint32_t flip_on_device(const at::Tensor& tensor, std::int64_t offset, std::uint32_t mask) {
  const at::Tensor words = tensor.detach().view(at::kInt);
  at::Tensor word = words.as_strided({1}, {1}, words.storage_offset() + offset);
  const auto before = static_cast<std::uint32_t>(word.item<std::int32_t>());
  word.bitwise_xor_(static_cast<std::int32_t>(mask));
  return before;
}

}  // namespace

FaultGuard::FaultGuard(Graph& graph, const FaultSpace& space, const Faults& faults)
    : graph_(graph), space_(space) {
  for (std::size_t i = 0; i < faults.size(); ++i) {
    space.index(faults[i]);  // throws where there is no such bit, before anything is flipped
    if (i > 0 && !(faults[i - 1] < faults[i])) throw Bug("faults are not sorted and distinct");
  }
  records_.reserve(faults.size());
  for (const FaultSite& site : faults) {
    records_.push_back({site, 0, 0});
    flip(records_.size() - 1);
  }
}

FaultGuard::~FaultGuard() {
  for (std::size_t i = 0; i < records_.size(); ++i) flip(i);
}

void FaultGuard::flip(std::size_t fault) {
  FaultRecord& record = records_[fault];
  const at::Tensor& weight = *weight_of(graph_[space_.tensors()[record.site.tensor].node].op);
  const std::int64_t offset = offset_of(weight, record.site.element);
  const std::uint32_t mask = 1u << record.site.bit;
  record.before =
      weight.is_cpu() ? flip_on_cpu(weight, offset, mask) : flip_on_device(weight, offset, mask);
  record.after = record.before ^ mask;
}

}  // namespace sentinel
