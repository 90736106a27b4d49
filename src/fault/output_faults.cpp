#include "fault/output_faults.hpp"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "sentinel/core/error.hpp"

namespace sentinel {
namespace {

constexpr int kWordBits = 32;

Word word_of(float value) {
  std::uint32_t word = 0;
  std::memcpy(&word, &value, sizeof word);
  return word;
}

float value_of(Word word) {
  const auto bits = static_cast<std::uint32_t>(word);
  float value = 0;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

/// Where an element, row-major in [C, H, W] or [C], of a row lies in the storage of the output.
std::int64_t offset_of(const at::Tensor& output, std::int64_t row, std::uint64_t element) {
  auto rest = static_cast<std::int64_t>(element);
  std::int64_t offset = row * output.stride(0);
  for (std::int64_t d = output.dim() - 1; d > 0; --d) {
    offset += rest % output.size(d) * output.stride(d);
    rest /= output.size(d);
  }
  return offset;
}

/// The output's storage as it lies there; outputs are dense.
at::Tensor flat(const at::Tensor& output) {
  return output.as_strided({output.numel()}, {1});
}

}  // namespace

OutputFaults::OutputFaults(const FaultSpace& space, const Faults& faults, std::size_t most_records)
    : space_(space), faults_(faults), seen_(faults.size(), -1), changed_(faults.size()) {
  for (std::size_t i = 0; i < faults.size(); ++i) {
    space.index(faults[i]);
    if (i > 0 && !(faults[i - 1] < faults[i])) throw Bug("faults are not sorted and distinct");
    if (by_image_.empty() || by_image_.back().image != faults[i].image)
      by_image_.push_back({faults[i].image, i, i});
    ++by_image_.back().end;
  }
  if (!by_image_.empty() && by_image_.front().image == kAllImages) {
    all_ = by_image_.front();
    by_image_.erase(by_image_.begin());
    all_nodes_ = nodes_of(all_);
  }
  if (faults.size() > most_records) return;
  for (const FaultSite& site : faults) reading_.records.push_back({site, 0, 0});
}

OutputFaults::Range OutputFaults::own(std::int64_t image) const {
  const auto found = std::lower_bound(
      by_image_.begin(), by_image_.end(), image,
      [](const Range& range, std::int64_t number) { return range.image < number; });
  return found != by_image_.end() && found->image == image ? *found : Range();
}

/// Tensors of a space are in the order of their nodes.
OutputFaults::Range OutputFaults::at_node(const Range& range, NodeId node) const {
  const auto first = faults_.begin() + static_cast<std::ptrdiff_t>(range.begin);
  const auto last = faults_.begin() + static_cast<std::ptrdiff_t>(range.end);
  const auto node_at = [this](const FaultSite& site) { return space_.tensors()[site.tensor].node; };
  const auto begin = std::partition_point(
      first, last, [&](const FaultSite& site) { return node_at(site) < node; });
  const auto end = std::partition_point(
      begin, last, [&](const FaultSite& site) { return node_at(site) == node; });
  return {range.image, static_cast<std::size_t>(begin - faults_.begin()),
          static_cast<std::size_t>(end - faults_.begin())};
}

std::vector<NodeId> OutputFaults::nodes_of(const Range& range) const {
  std::vector<NodeId> nodes;
  for (std::size_t i = range.begin; i < range.end; ++i)
    if (nodes.empty() || nodes.back() != node_of(i)) nodes.push_back(node_of(i));
  return nodes;
}

std::vector<NodeId> OutputFaults::nodes(std::int64_t image) const {
  const std::vector<NodeId> own_nodes = nodes_of(own(image));
  std::vector<NodeId> nodes;
  std::set_union(all_nodes_.begin(), all_nodes_.end(), own_nodes.begin(), own_nodes.end(),
                 std::back_inserter(nodes));
  return nodes;
}

void OutputFaults::put(std::size_t fault, std::int64_t image, std::vector<float>& words,
                       std::size_t place) {
  const FaultSite& site = faults_[fault];
  const Word before = word_of(words[place]);
  const Word plain = site.effect == Effect::kValue ? site.operand : 0;
  const Word after = after_fault(site, before, kWordBits, plain);
  words[place] = value_of(after);
  const bool first = seen_[fault] < 0 || image < seen_[fault];
  if (first) seen_[fault] = image;
  if (first && !reading_.records.empty()) reading_.records[fault] = {site, before, after};
  if (before != after) changed_[fault] = 1;
}

void OutputFaults::apply(NodeId node, const std::vector<Row>& rows, at::Tensor& output) {
  struct Hit {
    std::int64_t offset, image;
    std::size_t fault;
  };
  std::vector<Hit> hits;
  const Range everywhere = at_node(all_, node);
  for (const Row& row : rows)
    for (const Range& range : {everywhere, at_node(own(row.image), node)})
      for (std::size_t i = range.begin; i < range.end; ++i)
        hits.push_back({offset_of(output, row.row, faults_[i].element), row.image, i});
  if (hits.empty()) return;
  if (!output.is_non_overlapping_and_dense()) throw Bug("an output that is hit has gaps");
  std::vector<std::int64_t> places;
  for (const Hit& hit : hits) places.push_back(hit.offset);
  std::sort(places.begin(), places.end());
  places.erase(std::unique(places.begin(), places.end()), places.end());
  const at::Tensor index = at::tensor(places, at::kLong).to(output.device());
  const at::Tensor found =
      flat(output).index_select(0, index).to(at::kCPU).to(at::kFloat).contiguous();
  const float* clean = found.data_ptr<float>();
  std::vector<float> words(clean, clean + places.size());
  for (const Hit& hit : hits)
    put(hit.fault, hit.image, words,
        static_cast<std::size_t>(std::lower_bound(places.begin(), places.end(), hit.offset) -
                                 places.begin()));
  for (std::size_t p = 0; p < places.size(); ++p)
    reading_.words_wrong += word_of(words[p]) != word_of(clean[p]) ? 1 : 0;
  const at::Tensor now = at::tensor(words, at::kFloat).to(output.options());
  flat(output).index_copy_(0, index, now);
}

Reading OutputFaults::take() {
  for (const std::uint8_t changed : changed_) reading_.masked += changed ? 0 : 1;
  return std::move(reading_);
}

}  // namespace sentinel
