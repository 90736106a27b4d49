#include "transform/layer_block.hpp"

namespace sentinel {
namespace {

Graph on(at::Device device, const Graph& graph) {
  Graph copy = graph.clone();
  copy.to(device, at::MemoryFormat::ChannelsLast);
  return copy;
}

}  // namespace

LayerBlock::LayerBlock(const Graph& graph, const Dataset& images, at::Device device)
    : graph_(on(device, graph)), net_(graph_), images_(images), device_(device) {}

bool LayerBlock::go_to(NodeId layer, std::int64_t block) {
  if (layer == layer_ && block == block_) return false;
  layer_ = layer;
  block_ = block;
  const std::int64_t begin = block * kImagesAtOnce;
  const at::Tensor images =
      images_.batch(begin, std::min(begin + kImagesAtOnce, images_.size()), graph_.normalisation)
          .images.to(device_)
          .contiguous(at::MemoryFormat::ChannelsLast);
  trace_ = trace_around(graph_, images, layer, values_around(net_, layer));
  return true;
}

ToleranceSearch LayerBlock::search(std::vector<FactorUnit> units, int steps,
                                   ToleranceRule rule) const {
  return {net_,
          {layer_, std::move(units), steps, rule},
          trace_,
          "images of " + images_.info().name,
          block_ * kImagesAtOnce};
}

}  // namespace sentinel
