#include <algorithm>
#include <cstring>

#include "fault/weights.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/fault/trial_engine.hpp"
#include "sentinel/graph/rules.hpp"

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
  std::memcpy(&word, tensor.data_ptr<float>() + offset, sizeof word);
  return word;
}

/// What the network reads: 0 where the value is outside its range, or NaN.
std::uint32_t decode(std::uint32_t word, const ReadRange& range, std::uint64_t element) {
  if (range.low.empty()) return word;
  float value = 0;
  std::memcpy(&value, &word, sizeof value);
  const auto row = static_cast<std::size_t>(element / range.row);
  value = rules::read_weight(value, range.low[row], range.high[row]);
  std::memcpy(&word, &value, sizeof word);
  return word;
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

std::vector<at::Tensor> words_on_host(const Graph& graph, const FaultSpace& space) {
  std::vector<at::Tensor> words;
  for (const FaultTensor& tensor : space.tensors()) {
    const at::Tensor& weight = *weight_of(graph[tensor.node].op);
    if (weight.is_cpu()) return {};
    words.push_back(weight.to(at::kCPU));
  }
  return words;
}

FaultGuard::FaultGuard(Graph& graph, const FaultSpace& space, const Faults& faults,
                       const std::vector<ReadRange>& ranges, const std::vector<at::Tensor>& words)
    : graph_(graph), space_(space) {
  for (std::size_t i = 0; i < faults.size(); ++i) {
    space.index(faults[i]);  // throws where there is no such bit, before anything is flipped
    if (i > 0 && !(faults[i - 1] < faults[i])) throw Bug("faults are not sorted and distinct");
  }
  for (const FaultSite& site : faults) {
    Word& word = word_of(site, words);
    const std::uint32_t before = word.faulty;
    word.faulty ^= 1u << site.bit;
    records_.push_back({site, before, word.faulty});
  }
  // Only now: a word may have several flips.
  if (!ranges.empty()) {
    std::size_t word = 0;
    for (std::size_t i = 0; i < faults.size(); ++i) {
      const bool last = i + 1 == faults.size() || faults[i + 1].tensor != faults[i].tensor ||
                        faults[i + 1].element != faults[i].element;
      if (!last) continue;
      words_[word].faulty =
          decode(words_[word].faulty, ranges.at(faults[i].tensor), faults[i].element);
      ++word;
    }
  }
  store(&Word::faulty);
}

FaultGuard::~FaultGuard() {
  store(&Word::clean);
}

/// The word that holds this bit; sites come in order.
FaultGuard::Word& FaultGuard::word_of(const FaultSite& site, const std::vector<at::Tensor>& words) {
  const at::Tensor& tensor = words.empty()
                                 ? *weight_of(graph_[space_.tensors()[site.tensor].node].op)
                                 : words.at(site.tensor);
  const std::int64_t offset = offset_of(tensor, site.element);
  if (words_.empty() || words_.back().tensor != site.tensor || words_.back().offset != offset) {
    const std::uint32_t word = load_word(tensor, offset);
    words_.push_back({site.tensor, offset, word, word});
  }
  return words_.back();
}

void FaultGuard::store(std::uint32_t Word::*value) const {
  for (std::size_t first = 0, last = 0; first < words_.size(); first = last) {
    while (last < words_.size() && words_[last].tensor == words_[first].tensor) ++last;
    const at::Tensor& weight = *weight_of(graph_[space_.tensors()[words_[first].tensor].node].op);
    if (weight.is_cpu()) {
      for (std::size_t w = first; w < last; ++w)
        std::memcpy(weight.data_ptr<float>() + words_[w].offset, &(words_[w].*value),
                    sizeof(std::uint32_t));
      continue;
    }
    std::vector<std::int64_t> offsets;
    std::vector<std::int32_t> values;
    for (std::size_t w = first; w < last; ++w) {
      offsets.push_back(words_[w].offset);
      values.push_back(static_cast<std::int32_t>(words_[w].*value));
    }
    at::Tensor all = weight.detach().view(at::kInt).as_strided({weight.numel()}, {1});
    all.index_copy_(0, at::tensor(offsets, at::kLong).to(weight.device()),
                    at::tensor(values, at::kInt).to(weight.device()));
  }
}

}  // namespace sentinel
