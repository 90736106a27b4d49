#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

#include "sentinel/core/bytes.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/graph/profile.hpp"
#include "sentinel/graph/stored.hpp"
#include "sentinel/transform/calibrate.hpp"
#include "transform/calibration_runs.hpp"

namespace sentinel {
namespace {

constexpr float kMargin = 0x1p-10f;  // of a bound above the largest activation
constexpr double kWidening = 0.1;    // of an interval, on each side, in widths
using Site = ActivationRanges::Site;

bool is_activation(const Op& op) {
  return std::holds_alternative<Activation>(op) || std::holds_alternative<BoundedActivation>(op);
}

/// Running extremes of the nodes that are profiled; NaN stays NaN.
struct Extremes {
  at::Tensor low, high;  // [C] or [C * H * W]; undefined before the first block
};

void extend(Extremes& extremes, const at::Tensor& output, bool by_neuron) {
  // Reducing rows that are contiguous is 40 times faster than reducing over N, H, W at once.
  const at::Tensor all = output.contiguous().flatten(1),
                   rows =
                       by_neuron ? all.unsqueeze(2) : all.view({all.size(0), output.size(1), -1});
  const at::Tensor low = at::amin(at::amin(rows, 2), 0), high = at::amax(at::amax(rows, 2), 0);
  extremes.low = extremes.low.defined() ? at::minimum(extremes.low, low) : low;
  extremes.high = extremes.high.defined() ? at::maximum(extremes.high, high) : high;
}

/// Extremes over this rank's blocks.
std::vector<Extremes> profile(const Graph& graph, const Dataset& images, const Comm& comm,
                              at::Device device, BoundsPer per) {
  std::vector<Extremes> extremes(static_cast<std::size_t>(graph.size()));
  for_own_blocks(graph, images, comm, device, [&](const Trace& trace) {
    for (NodeId id = 0; id < graph.size(); ++id) {
      const auto at = static_cast<std::size_t>(id);
      const bool activation = is_activation(graph[id].op);
      if (activation || as_conv(graph[id].op))
        extend(extremes[at], trace[at], activation && per == BoundsPer::kNeuron);
    }
  });
  return extremes;
}

std::vector<double> values(const at::Tensor& tensor, std::int64_t count, double otherwise) {
  if (!tensor.defined()) return std::vector<double>(static_cast<std::size_t>(count), otherwise);
  const at::Tensor numbers = tensor.to(at::kCPU, at::kDouble).contiguous();
  const double* begin = numbers.data_ptr<double>();
  return std::vector<double>(begin, begin + numbers.numel());
}

ActivationRanges sites_of(const Graph& graph, const std::vector<Extremes>& extremes,
                          BoundsPer per) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const auto shapes = output_shapes(graph);
  ActivationRanges ranges;
  for (NodeId id = 0; id < graph.size(); ++id) {
    const auto at = static_cast<std::size_t>(id);
    const bool activation = is_activation(graph[id].op);
    if (!activation && !as_conv(graph[id].op)) continue;
    std::int64_t count = shapes[at].front();
    if (activation && per == BoundsPer::kNeuron)
      count = std::accumulate(shapes[at].begin() + 1, shapes[at].end(), count, std::multiplies<>());
    (activation ? ranges.activations : ranges.convs)
        .push_back({graph[id].name, values(extremes[at].low, count, kInfinity),
                    values(extremes[at].high, count, -kInfinity)});
  }
  return ranges;
}

Bytes serialize(const ActivationRanges& ranges) {
  ByteWriter writer;
  for (const auto* sites : {&ranges.activations, &ranges.convs}) {
    for (const auto& site : *sites) {
      writer.vector(site.low);
      writer.vector(site.high);
    }
  }
  return writer.take();
}

/// `merge(into, value)` for every number of `bytes`, which are of ranges of the same graph.
template <class Low, class High>
void read_into(ActivationRanges& ranges, const Bytes& bytes, Low merge_low, High merge_high) {
  ByteReader reader(bytes, "activation ranges");
  for (auto* sites : {&ranges.activations, &ranges.convs}) {
    for (auto& site : *sites) {
      const auto low = read_vector<double>(reader), high = read_vector<double>(reader);
      if (low.size() != site.low.size() || high.size() != site.high.size()) {
        throw Bug("ranks profile different graphs at " + site.name);
      }
      for (std::size_t c = 0; c < low.size(); ++c) {
        site.low[c] = merge_low(site.low[c], low[c]);
        site.high[c] = merge_high(site.high[c], high[c]);
      }
    }
  }
}

/// The same, complete ranges on every rank.
void combine(ActivationRanges& ranges, const Comm& comm) {
  // A lost NaN would hide a broken model, so it wins.
  const auto minimum = [](double x, double y) { return std::isnan(x) || x < y ? x : y; };
  const auto maximum = [](double x, double y) { return std::isnan(x) || x > y ? x : y; };
  for (const auto& part : comm.gather(serialize(ranges))) read_into(ranges, part, minimum, maximum);
  Bytes whole = serialize(ranges);
  comm.broadcast(whole);
  const auto replace = [](double, double y) { return y; };
  read_into(ranges, whole, replace, replace);
}

/// Neurons are told apart by the network's own size of images.
void require_size_of(const Graph& graph, const Dataset& images) {
  const auto size = output_shapes(graph).front();
  const auto& [c, h, w] = images.info().shape;
  if (size == std::vector<std::int64_t>{c, h, w}) return;
  throw UserError(
      fmt::format("bounds per neuron: the network is for images of {}, and those of {} are "
                  "of {}x{}x{}; choose bounds per channel or layer",
                  fmt::join(size, "x"), images.info().name, c, h, w));
}

void require_finite(const ActivationRanges& ranges, const Dataset& images, BoundsPer per) {
  for (const auto* sites : {&ranges.activations, &ranges.convs}) {
    const bool by_neuron = per == BoundsPer::kNeuron && sites == &ranges.activations;
    for (const auto& site : *sites) {
      for (std::size_t c = 0; c < site.low.size(); ++c) {
        if (std::isfinite(site.low[c]) && std::isfinite(site.high[c])) continue;
        throw DataError("calibration images of " + images.info().name,
                        (by_neuron ? "neuron " : "channel ") + std::to_string(c) + " of " +
                            site.name + " is not finite without faults; check the checkpoint");
      }
    }
  }
}

/// `parts`: channels, or whatever has bounds of its own.
const Site& find(const std::vector<Site>& sites, const std::string& name, std::size_t parts) {
  const auto found =
      std::find_if(sites.begin(), sites.end(), [&](const Site& site) { return site.name == name; });
  if (found == sites.end() || found->high.size() < parts || found->high.size() % parts != 0) {
    throw Bug("activation ranges of another graph: " + name);
  }
  return *found;
}

at::Tensor like(const std::vector<float>& numbers, const at::Tensor& tensor) {
  return at::tensor(numbers, at::TensorOptions(at::kFloat))
      .view(tensor.sizes())
      .to(tensor.device());
}

/// Of equal parts of the numbers the largest each, and a little more.
at::Tensor above(const std::vector<double>& numbers, const at::Tensor& bounds) {
  const auto parts = static_cast<std::ptrdiff_t>(bounds.numel()),
             size = static_cast<std::ptrdiff_t>(numbers.size()) / parts;
  std::vector<float> above;
  for (std::ptrdiff_t part = 0; part < parts; ++part) {
    const auto first = numbers.begin() + part * size;
    const double high = *std::max_element(first, first + size);
    // Below 0 where a SiLU never gets above it.
    above.push_back(static_cast<float>(high) * (high < 0 ? 1.0f - kMargin : 1.0f + kMargin));
  }
  return like(above, bounds);
}

void set_bounds(BoundedActivation& op, const Site& site) {
  op.bound = above(site.high, op.bound);
  if (!op.low.defined()) return;
  std::vector<double> negated;
  for (const double low : site.low) negated.push_back(-low);
  op.low = -above(negated, op.low);
}

void set_intervals(DuplicatedConv& op, const Site& site) {
  std::vector<float> low, high;
  for (std::int64_t channel : op.duplicated) {
    const double bottom = site.low.at(static_cast<std::size_t>(channel));
    const double top = site.high.at(static_cast<std::size_t>(channel));
    low.push_back(static_cast<float>(bottom - kWidening * (top - bottom)));
    high.push_back(static_cast<float>(top + kWidening * (top - bottom)));
  }
  op.low = like(low, op.low);
  op.high = like(high, op.high);
}

}  // namespace

BoundsPer finest_bounds(const Graph& graph) {
  BoundsPer finest = BoundsPer::kLayer;
  for (const Node& node : graph.nodes())
    if (const auto* relu = std::get_if<BoundedActivation>(&node.op))
      finest = std::max(finest, bounds_per(*relu));
  return finest;
}

ActivationRanges activation_ranges(const Graph& graph, const Dataset& images, const Comm& comm,
                                   at::Device device, BoundsPer per) {
  ActivationRanges ranges;
  comm.agree([&] {
    if (images.size() == 0) throw UserError("calibration needs at least one image");
    if (per == BoundsPer::kNeuron) require_size_of(graph, images);
    Graph local = graph.clone();
    local.to(device, at::MemoryFormat::ChannelsLast);
    ranges = sites_of(local, profile(local, images, comm, device, per), per);
  });
  combine(ranges, comm);
  comm.agree([&] { require_finite(ranges, images, per); });
  return ranges;
}

void calibrate(Graph& graph, const ActivationRanges& ranges) {
  const auto channels = channel_counts(graph);
  for (NodeId id = 0; id < graph.size(); ++id) {
    Node& node = graph[id];
    const auto count = static_cast<std::size_t>(channels[static_cast<std::size_t>(id)]);
    if (auto* relu = std::get_if<BoundedActivation>(&node.op)) {
      const auto bounds = static_cast<std::size_t>(relu->bound.numel());
      set_bounds(*relu, find(ranges.activations, node.name, std::max(count, bounds)));
    } else if (auto* conv = std::get_if<DuplicatedConv>(&node.op)) {
      if (conv->correction == Correction::kRange) {
        set_intervals(*conv, find(ranges.convs, node.name, count));
      }
    }
  }
}

void remove_limits(Graph& graph) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (NodeId id = 0; id < graph.size(); ++id) {
    // New tensors: others may share the old ones.
    WeightBounds* bounds = weight_bounds_of(graph[id].op);
    if (bounds && bounds->low.defined()) {
      bounds->low = at::full_like(bounds->low, std::numeric_limits<float>::lowest());
      bounds->high = at::full_like(bounds->high, std::numeric_limits<float>::max());
    }
    if (auto* relu = std::get_if<BoundedActivation>(&graph[id].op)) {
      relu->bound = at::full_like(relu->bound, kInfinity);
      if (relu->low.defined()) relu->low = at::full_like(relu->low, -kInfinity);
    } else if (auto* conv = std::get_if<DuplicatedConv>(&graph[id].op)) {
      if (conv->correction != Correction::kRange) continue;
      conv->low = at::full_like(conv->low, -kInfinity);
      conv->high = at::full_like(conv->high, kInfinity);
    }
  }
  for (const StoredTensor& tensor : stored_tensors(graph))
    if (tensor.kind == TensorClass::kBound) store_plain(graph, tensor.name);
}

}  // namespace sentinel
