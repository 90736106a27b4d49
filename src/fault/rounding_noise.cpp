#include "fault/rounding_noise.hpp"

#include "sentinel/core/rng.hpp"
#include "sentinel/graph/run.hpp"
#include "sentinel/graph/visit.hpp"

namespace sentinel {
namespace {

constexpr double kRounding = 0x1p-23;

bool is_sum(const Op& op) {
  return std::holds_alternative<Conv>(op) || std::holds_alternative<Linear>(op) ||
         std::holds_alternative<DuplicatedConv>(op);
}

template <class Layer>
void take_signs(Layer& layer) {
  layer.weight = decoded(layer.weight, layer.bounds).abs();
  layer.bounds = {};
  if (layer.bias.defined()) layer.bias = layer.bias.abs();
}

/// -1 and 1 at random.
at::Tensor signs(const RngKey& key, const std::vector<std::int64_t>& sizes) {
  Rng rng(key);
  at::Tensor signs = at::empty(sizes, at::TensorOptions().dtype(at::kFloat));
  float* values = signs.data_ptr<float>();
  std::uint32_t bits = 0;
  for (std::int64_t i = 0; i < signs.numel(); ++i, bits >>= 1) {
    if (i % 32 == 0) bits = rng.bits32();
    values[i] = bits & 1 ? 1.0F : -1.0F;
  }
  return signs;
}

}  // namespace

Graph magnitudes_of(const Graph& network) {
  Graph graph = network.clone();
  for (NodeId id = 0; id < graph.size(); ++id) {
    Op& op = graph[id].op;
    if (auto* linear = std::get_if<Linear>(&op)) take_signs(*linear);
    if (auto* conv = std::get_if<Conv>(&op)) take_signs(*conv);
    if (auto* duplicated = std::get_if<DuplicatedConv>(&op)) take_signs(duplicated->conv);
  }
  return graph;
}

RoundingNoise::RoundingNoise(const RoundingDraw& draw)
    : magnitudes_(*draw.magnitudes),
      number_(draw.number),
      last_sum_(static_cast<std::size_t>(magnitudes_.size()), 0) {
  for (NodeId id = 0; id < magnitudes_.size(); ++id)
    if (is_sum(magnitudes_[id].op))
      last_sum_[static_cast<std::size_t>(magnitudes_[id].inputs[0])] = id;
}

void RoundingNoise::move(NodeId node, at::Tensor& output) const {
  at::Tensor sums;
  apply_shown(magnitudes_, node, {inputs_.at(magnitudes_[node].inputs[0]).abs()},
              [&](NodeId, at::Tensor& shown) { sums = shown; });
  const RngKey key{seed_of("rounding") ^ number_, static_cast<std::uint32_t>(node), 0,
                   Purpose::kAudit};
  std::vector<std::int64_t> sizes = sums.sizes().vec();
  const auto* duplicated = std::get_if<DuplicatedConv>(&magnitudes_[node].op);
  if (duplicated) sizes[1] = duplicated->out_channels();
  at::Tensor up_or_down = signs(key, sizes);
  // Copies that read as their originals give the same.
  if (duplicated)
    up_or_down = at::cat(
        {up_or_down, up_or_down.index_select(1, at::tensor(duplicated->duplicated, at::kLong))}, 1);
  const at::Tensor finite = at::where(at::isfinite(sums), sums, at::zeros_like(sums));
  output.add_(finite * up_or_down.to(output.device()), kRounding);
}

void RoundingNoise::apply(NodeId node, at::Tensor& output) {
  if (is_sum(magnitudes_[node].op)) {
    move(node, output);
    const NodeId input = magnitudes_[node].inputs[0];
    if (last_sum_[static_cast<std::size_t>(input)] == node) inputs_.erase(input);
  }
  if (last_sum_[static_cast<std::size_t>(node)] != 0) inputs_.emplace(node, output);
}

}  // namespace sentinel
