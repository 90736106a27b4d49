#include "fault/prefix_cache.hpp"

#include <algorithm>
#include <set>

#include "fault/weights.hpp"
#include "sentinel/graph/profile.hpp"

namespace sentinel {
namespace {

std::vector<NodeId> weighted_nodes(const Graph& graph) {
  std::vector<NodeId> nodes;
  for (NodeId id = 0; id < graph.size(); ++id)
    if (weight_of(graph[id].op)) nodes.push_back(id);
  return nodes;
}

/// Operators whose output may be a view of their input keep the whole input alive.
bool may_be_view(const Op& op) {
  return std::holds_alternative<Slice>(op) || std::holds_alternative<Flatten>(op) ||
         std::holds_alternative<Dropout>(op);
}

NodeId storage_of(const Graph& graph, NodeId id) {
  while (may_be_view(graph[id].op)) id = graph[id].inputs[0];
  return id;
}

std::uint64_t bytes_per_image(const std::vector<std::int64_t>& shape) {
  std::uint64_t bytes = sizeof(float);
  for (const std::int64_t size : shape) bytes *= static_cast<std::uint64_t>(size);
  return bytes;
}

/// Bytes per image of everything live at any of the cuts, but the images themselves.
std::uint64_t cost_of(const Graph& graph, const std::vector<NodeId>& cuts) {
  const auto shapes = output_shapes(graph);
  std::set<NodeId> stored;
  for (const NodeId cut : cuts)
    for (const NodeId id : live_at(graph, cut)) stored.insert(storage_of(graph, id));
  stored.erase(0);
  std::uint64_t bytes = 0;
  for (const NodeId id : stored) bytes += bytes_per_image(shapes[static_cast<std::size_t>(id)]);
  return bytes;
}

}  // namespace

PrefixCache::PrefixCache(const Graph& graph, std::vector<at::Tensor> blocks, std::uint64_t budget) {
  std::int64_t images = 0;
  for (const at::Tensor& block : blocks) images += block.size(0);
  choose_cuts(graph, images, budget);
  for (at::Tensor& block : blocks) {
    Trace& trace = traces_.emplace_back(static_cast<std::size_t>(graph.size()));
    trace[0] = std::move(block);
    logits_.push_back(fill(graph, trace));
  }
}

void PrefixCache::choose_cuts(const Graph& graph, std::int64_t images, std::uint64_t budget) {
  const std::vector<NodeId> nodes = weighted_nodes(graph);
  for (std::size_t stride = 1;; stride *= 2) {
    cuts_ = {0};
    for (std::size_t i = stride - 1; i < nodes.size(); i += stride) cuts_.push_back(nodes[i]);
    bytes_ = cost_of(graph, cuts_) * static_cast<std::uint64_t>(images);
    if (bytes_ <= budget || cuts_.size() == 1) break;
  }
  kept_.assign(static_cast<std::size_t>(graph.size()), false);
  for (const NodeId cut : cuts_) {
    live_.push_back(cut == 0 ? std::vector<NodeId>{0} : live_at(graph, cut));
    for (const NodeId id : live_.back()) kept_[static_cast<std::size_t>(id)] = true;
  }
}

at::Tensor PrefixCache::fill(const Graph& graph, Trace& trace) const {
  const auto readers = graph.consumers();
  for (NodeId id = 1; id < graph.size(); ++id) {
    std::vector<at::Tensor> inputs;
    for (const NodeId input : graph[id].inputs)
      inputs.push_back(trace[static_cast<std::size_t>(input)]);
    trace[static_cast<std::size_t>(id)] = sentinel::apply(graph[id].op, inputs);
    for (const NodeId input : graph[id].inputs) {
      const auto i = static_cast<std::size_t>(input);
      if (!kept_[i] && readers[i].back() == id) trace[i] = at::Tensor();
    }
  }
  const at::Tensor logits = trace.back();
  if (!kept_.back()) trace.back() = at::Tensor();
  return logits;
}

NodeId PrefixCache::cut_before(NodeId node) const {
  return *(std::upper_bound(cuts_.begin(), cuts_.end(), node) - 1);
}

Trace PrefixCache::outputs(const Graph& graph, std::size_t block, NodeId from,
                           const std::vector<NodeId>& nodes) const {
  const auto kept = [this](NodeId id) { return kept_[static_cast<std::size_t>(id)]; };
  if (std::all_of(nodes.begin(), nodes.end(), kept)) return traces_[block];
  const NodeId cut = cut_before(from);
  Trace trace = start(block, cut);
  const NodeId last = *std::max_element(nodes.begin(), nodes.end());
  for (NodeId id = std::max<NodeId>(cut, 1); id <= last; ++id) {
    std::vector<at::Tensor> inputs;
    for (const NodeId input : graph[id].inputs)
      inputs.push_back(trace[static_cast<std::size_t>(input)]);
    trace[static_cast<std::size_t>(id)] = sentinel::apply(graph[id].op, inputs);
  }
  return trace;
}

Trace PrefixCache::start(std::size_t block, NodeId cut) const {
  const auto which = std::lower_bound(cuts_.begin(), cuts_.end(), cut) - cuts_.begin();
  Trace trace(traces_[block].size());
  for (const NodeId id : live_[static_cast<std::size_t>(which)])
    trace[static_cast<std::size_t>(id)] = traces_[block][static_cast<std::size_t>(id)];
  return trace;
}

}  // namespace sentinel
