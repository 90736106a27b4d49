#include "transform/reach.hpp"

#include <algorithm>
#include <functional>

#include "sentinel/graph/channels.hpp"
#include "sentinel/graph/visit.hpp"

namespace sentinel {
namespace {

std::size_t index(NodeId id) {
  return static_cast<std::size_t>(id);
}

/// Whether each output value depends on the input values of the same place alone.
bool keeps_places_apart(const Op& op) {
  return std::visit(Overloaded{
                        [](const BatchNorm&) { return true; },
                        [](const Activation&) { return true; },
                        [](const BoundedActivation&) { return true; },
                        [](const Add&) { return true; },
                        [](const ChannelAffine&) { return true; },
                        [](const Dropout&) { return true; },
                        [](const auto&) { return false; },
                    },
                    op);
}

Reach reach_of(const Graph& graph, NodeId layer, const std::function<bool(const Op&)>& keeps) {
  std::vector<bool> reached(index(graph.size()), false), apart = reached;
  reached[index(layer)] = apart[index(layer)] = true;
  Reach reach;
  for (NodeId id = layer + 1; id < graph.size(); ++id) {
    bool touched = false, alike = keeps(graph[id].op);
    for (const NodeId input : graph[id].inputs) {
      touched = touched || reached[index(input)];
      alike = alike && (apart[index(input)] || !reached[index(input)]);
    }
    reached[index(id)] = touched;
    apart[index(id)] = touched && alike;
    if (!touched) reach.untouched.push_back(id);
    if (touched && alike) reach.apart.push_back(id);
  }
  const auto readers = graph.consumers();
  for (NodeId id = layer; id < graph.size(); ++id) {
    const auto& own = readers[index(id)];
    const bool mixed =
        std::any_of(own.begin(), own.end(), [&](NodeId reader) { return !apart[index(reader)]; });
    if (apart[index(id)] && (mixed || id + 1 == graph.size())) reach.seen.push_back(id);
  }
  return reach;
}

}  // namespace

Trace trace_around(const Graph& graph, const at::Tensor& images, NodeId layer,
                   const std::vector<NodeId>& also) {
  std::vector<bool> kept(index(graph.size()), false);
  for (const NodeId id : live_at(graph, layer)) kept[index(id)] = true;
  for (const NodeId id : also) kept[index(id)] = true;
  const auto readers = graph.consumers();
  Trace trace(index(graph.size()));
  trace[0] = images;
  for (NodeId id = 1; id <= layer; ++id) {
    std::vector<at::Tensor> inputs;
    for (const NodeId input : graph[id].inputs) inputs.push_back(trace[index(input)]);
    trace[index(id)] = sentinel::apply(graph[id].op, inputs);
    for (const NodeId input : graph[id].inputs)
      if (!kept[index(input)] && readers[index(input)].back() == id)
        trace[index(input)] = at::Tensor();
  }
  return trace;
}

Reach reach_of_channels(const Graph& graph, NodeId layer) {
  return reach_of(graph, layer, keeps_channels_apart);
}

Reach reach_of_neurons(const Graph& graph, NodeId layer) {
  return reach_of(graph, layer, keeps_places_apart);
}

}  // namespace sentinel
