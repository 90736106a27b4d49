#include "sentinel/fault/fault_space.hpp"

#include <algorithm>
#include <tuple>

#include "fault/weights.hpp"
#include "sentinel/core/error.hpp"

namespace sentinel {

const at::Tensor* weight_of(const Op& op) {
  if (const Conv* conv = as_conv(op)) return &conv->weight;
  if (const auto* linear = std::get_if<Linear>(&op)) return &linear->weight;
  return nullptr;
}

std::int64_t original_rows(const Op& op) {
  if (const auto* duplicated = std::get_if<DuplicatedConv>(&op)) return duplicated->out_channels();
  return weight_of(op)->size(0);
}

std::int64_t groups_of(const Op& op) {
  const Conv* conv = as_conv(op);
  return conv ? conv->groups : 1;
}

int word_bits(WeightCodec codec) {
  switch (codec) {
    case WeightCodec::kFloat32:
      return 32;
  }
  throw Bug("unknown weight codec");
}

bool FaultSite::operator<(const FaultSite& o) const {
  return std::tie(tensor, element, bit) < std::tie(o.tensor, o.element, o.bit);
}

FaultSpace::FaultSpace(const Graph& graph) {
  for (NodeId id = 0; id < graph.size(); ++id) {
    const at::Tensor* weight = weight_of(graph[id].op);
    if (!weight) continue;
    FaultTensor tensor;
    tensor.node = id;
    tensor.name = graph[id].name + ".weight";
    tensor.elements = static_cast<std::uint64_t>(weight->numel());
    const std::int64_t row = weight->size(0) ? weight->numel() / weight->size(0) : 0;
    tensor.originals = static_cast<std::uint64_t>(original_rows(graph[id].op) * row);
    tensor.row = static_cast<std::uint64_t>(row);
    tensor.first_bit = bits_;
    bits_ += tensor.elements * static_cast<std::uint64_t>(word_bits(tensor.codec));
    tensors_.push_back(std::move(tensor));
  }
}

FaultSite FaultSpace::at(std::uint64_t index) const {
  if (index >= bits_) throw Bug("bit " + std::to_string(index) + " is outside the fault space");
  const auto after = std::upper_bound(
      tensors_.begin(), tensors_.end(), index,
      [](std::uint64_t bit, const FaultTensor& tensor) { return bit < tensor.first_bit; });
  const auto tensor = after - 1;
  const auto width = static_cast<std::uint64_t>(word_bits(tensor->codec));
  const std::uint64_t offset = index - tensor->first_bit;
  return {static_cast<std::uint32_t>(tensor - tensors_.begin()), offset / width,
          static_cast<std::uint8_t>(offset % width)};
}

std::uint64_t FaultSpace::index(const FaultSite& site) const {
  if (site.tensor >= tensors_.size()) throw Bug("a fault names a tensor outside the fault space");
  const FaultTensor& tensor = tensors_[site.tensor];
  const auto width = static_cast<std::uint64_t>(word_bits(tensor.codec));
  if (site.element >= tensor.elements || site.bit >= width)
    throw Bug("a fault lies outside '" + tensor.name + "'");
  return tensor.first_bit + site.element * width + site.bit;
}

}  // namespace sentinel
