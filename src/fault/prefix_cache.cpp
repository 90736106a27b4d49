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

NodeId storage_of(const Graph& graph, NodeId id) {
  while (may_be_view(graph[id].op)) id = graph[id].inputs[0];
  return id;
}

std::uint64_t bytes_per_image(const std::vector<std::int64_t>& shape) {
  std::uint64_t bytes = sizeof(float);
  for (const std::int64_t size : shape) bytes *= static_cast<std::uint64_t>(size);
  return bytes;
}

}  // namespace

PrefixCache::PrefixCache(const FusedNet& net, std::vector<at::Tensor> blocks, std::uint64_t budget)
    : net_(net) {
  std::int64_t images = 0;
  for (const at::Tensor& block : blocks) images += block.size(0);
  choose_cuts(images, budget);
  for (at::Tensor& block : blocks) {
    Trace& trace = traces_.emplace_back(static_cast<std::size_t>(net.graph().size()));
    trace[0] = std::move(block);
    logits_.push_back(fill(trace));
  }
}

/// Bytes per image of everything live at any of the cuts, and of other values; not of the images.
std::uint64_t PrefixCache::cost(const std::vector<NodeId>& cuts,
                                const std::vector<NodeId>& others) const {
  const Graph& graph = net_.graph();
  std::set<NodeId> stored;
  for (const NodeId id : others) stored.insert(storage_of(graph, id));
  for (const NodeId cut : cuts)
    for (const NodeId id : net_.live_at(cut)) stored.insert(storage_of(graph, id));
  stored.erase(0);
  const auto shapes = output_shapes(graph);
  std::uint64_t bytes = 0;
  for (const NodeId id : stored) bytes += bytes_per_image(shapes[static_cast<std::size_t>(id)]);
  return bytes;
}

void PrefixCache::choose_cuts(std::int64_t images, std::uint64_t budget) {
  const std::vector<NodeId> nodes = weighted_nodes(net_.graph());
  std::vector<NodeId> others;
  for (NodeId id = 1; id < net_.graph().size(); ++id)
    if (net_.is_value(id)) others.push_back(id);
  // First to go are the values that no cut needs, then every other cut.
  for (std::size_t stride = 1;; stride *= others.empty() ? 2 : 1, others.clear()) {
    cuts_ = {0};
    for (std::size_t i = stride - 1; i < nodes.size(); i += stride) cuts_.push_back(nodes[i]);
    bytes_ = cost(cuts_, others) * static_cast<std::uint64_t>(images);
    if (bytes_ <= budget || (cuts_.size() == 1 && others.empty())) break;
  }
  kept_.assign(static_cast<std::size_t>(net_.graph().size()), false);
  for (const NodeId id : others) kept_[static_cast<std::size_t>(id)] = true;
  for (const NodeId cut : cuts_) {
    live_.push_back(cut == 0 ? std::vector<NodeId>{0} : net_.live_at(cut));
    for (const NodeId id : live_.back()) kept_[static_cast<std::size_t>(id)] = true;
  }
}

at::Tensor PrefixCache::fill(Trace& trace) const {
  for (NodeId id = 1; id < net_.graph().size(); ++id) {
    if (!net_.is_value(id)) continue;
    std::vector<at::Tensor> in;
    for (const NodeId input : net_.inputs(id)) in.push_back(trace[static_cast<std::size_t>(input)]);
    for (const NodeId input : net_.inputs(id))
      if (!kept_[static_cast<std::size_t>(input)] && net_.last_reader(input) == id)
        trace[static_cast<std::size_t>(input)] = at::Tensor();
    trace[static_cast<std::size_t>(id)] = net_.compute(id, std::move(in));
  }
  const at::Tensor logits = trace.back();
  if (!kept_.back()) trace.back() = at::Tensor();
  return logits;
}

bool PrefixCache::keeps_all() const {
  for (NodeId id = 0; id < net_.graph().size(); ++id)
    if (net_.is_value(id) && !kept_[static_cast<std::size_t>(id)]) return false;
  return true;
}

NodeId PrefixCache::cut_before(NodeId node) const {
  return *(std::upper_bound(cuts_.begin(), cuts_.end(), node) - 1);
}

Trace PrefixCache::outputs(std::size_t block, NodeId from, const std::vector<NodeId>& nodes) const {
  const auto kept = [this](NodeId id) { return kept_[static_cast<std::size_t>(id)]; };
  if (std::all_of(nodes.begin(), nodes.end(), kept)) return traces_[block];
  const NodeId cut = cut_before(from);
  Trace trace = start(block, cut);
  const NodeId last = *std::max_element(nodes.begin(), nodes.end());
  for (NodeId id = std::max<NodeId>(cut, 1); id <= last; ++id) {
    if (!net_.is_value(id)) continue;
    std::vector<at::Tensor> in;
    for (const NodeId input : net_.inputs(id)) in.push_back(trace[static_cast<std::size_t>(input)]);
    trace[static_cast<std::size_t>(id)] = net_.compute(id, std::move(in));
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
