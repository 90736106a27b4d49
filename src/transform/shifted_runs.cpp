#include "transform/shifted_runs.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "sentinel/graph/channels.hpp"
#include "sentinel/graph/kernels.hpp"

namespace sentinel {
namespace {

// Shifts in a batch: at most so many, fewer where the layer's output has many values.
constexpr std::int64_t kFewest = 16, kMost = 64, kValuesAtOnce = 1 << 22;
// Paths round differently: they may differ in a prediction where two logits are closer than this
// share of the largest. Measured are differences of up to 1e-5 of it.
constexpr float kNearTie = 1e-4F;
// A difference to fault-free outputs stays below this, and weights below that: no sum overflows.
constexpr float kLargestDelta = 0x1p64F, kLargestWeight = 0x1p32F;

std::size_t index(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

/// Rows of images in this order, in the memory format of `x`.
at::Tensor of_images(const at::Tensor& x, const at::Tensor& images) {
  if (x.dim() != 4) return x.index_select(0, images);
  return x.permute({0, 2, 3, 1}).index_select(0, images).permute({0, 3, 1, 2});
}

/// The shifted channel of each shift's image, [1, shifts, H, W] contiguous, on the CPU.
at::Tensor channels_of(const at::Tensor& x, const std::vector<Shift>& shifts) {
  const std::int64_t height = x.size(2), width = x.size(3);
  at::Tensor maps =
      at::empty({1, static_cast<std::int64_t>(shifts.size()), height, width}, at::kFloat);
  float* to = maps.data_ptr<float>();
  for (const Shift& shift : shifts) {
    const float* from =
        x.data_ptr<float>() + shift.image * x.stride(0) + shift.channel * x.stride(1);
    for (std::int64_t row = 0; row < height; ++row)
      for (std::int64_t column = 0; column < width; ++column)
        *to++ = from[row * x.stride(2) + column * x.stride(3)];
  }
  return maps;
}

/// The other way round: row k of x [shifts, C, H, W] gets channel k of maps [1, shifts, H, W].
void put_channels(at::Tensor& x, const std::vector<Shift>& shifts, const at::Tensor& maps) {
  const at::Tensor from_maps = maps.contiguous();
  const float* from = from_maps.data_ptr<float>();
  for (std::size_t k = 0; k < shifts.size(); ++k) {
    float* to = x.data_ptr<float>() + static_cast<std::int64_t>(k) * x.stride(0) +
                shifts[k].channel * x.stride(1);
    for (std::int64_t row = 0; row < x.size(2); ++row)
      for (std::int64_t column = 0; column < x.size(3); ++column)
        to[row * x.stride(2) + column * x.stride(3)] = *from++;
  }
}

/// `map`: of the shifted channel, [H, W] or one value.
void add_to(at::Tensor map, const Shift& shift) {
  if (shift.position >= 0 && map.dim() == 2)
    map = map.select(0, shift.position / map.size(1)).select(0, shift.position % map.size(1));
  map.add_(shift.value);
}

bool contains(const std::vector<NodeId>& nodes, NodeId id) {
  return std::find(nodes.begin(), nodes.end(), id) != nodes.end();
}

/// To whose fault-free output the effect of one input channel may be added.
bool adds_up(const Op& op) {
  const Conv* conv = std::get_if<Conv>(&op);
  return conv != nullptr && !conv->bounds.low.defined() &&
         conv->weight.abs().max().item<float>() < kLargestWeight;
}

/// The distance of the predicted class to the nearest other one, and the largest magnitude.
struct Spread {
  float distance = std::numeric_limits<float>::infinity();  // negative: another class is ahead
  float magnitude = 0;
  bool is_clear() const {
    return std::isfinite(magnitude) && std::abs(distance) > kNearTie * magnitude;
  }
};
Spread spread(const float* logits, std::int64_t classes, std::int64_t predicted) {
  Spread result;
  for (std::int64_t j = 0; j < classes; ++j) {
    const float z = std::isfinite(logits[j]) ? logits[j] : std::numeric_limits<float>::infinity();
    result.magnitude = std::max(result.magnitude, std::abs(z));
    if (j != predicted) result.distance = std::min(result.distance, logits[predicted] - logits[j]);
  }
  return result;
}

}  // namespace

void add_shift(at::Tensor& output, std::int64_t k, const Shift& shift) {
  add_to(output.select(0, k).select(0, shift.channel), shift);
}

std::vector<NodeId> values_around(const FusedNet& net, NodeId layer) {
  std::vector<NodeId> nodes = net.live_at(layer + 1);
  if (std::find(nodes.begin(), nodes.end(), layer) == nodes.end()) nodes.push_back(layer);
  return nodes;
}

ShiftedRuns::ShiftedRuns(const FusedNet& net, NodeId layer, const Trace& trace,
                         const at::Tensor& predictions)
    : net_(net), layer_(layer), given_(index(net.graph().size())) {
  const at::Tensor numbers = predictions.to(at::kCPU).contiguous();
  predictions_.assign(numbers.data_ptr<std::int64_t>(),
                      numbers.data_ptr<std::int64_t>() + numbers.numel());
  sort_values();
  compute_clean(trace);
  for (std::size_t i = 0; i < predictions_.size(); ++i) {
    const Spread own = spread(logits_.data() + i * index(classes_), classes_, predictions_[i]);
    clear_.push_back(own.is_clear() && own.distance > 0);
  }
}

void ShiftedRuns::sort_values() {
  const Graph& graph = net_.graph();
  const auto keeps_apart = [&](NodeId id) {
    const std::vector<NodeId>& parts = net_.parts(id);
    return std::all_of(parts.begin(), parts.end(),
                       [&](NodeId part) { return keeps_channels_apart(graph[part].op); });
  };
  const auto is_changed = [&](NodeId id) { return id == layer_ || contains(behind_, id); };
  const auto is_apart = [&](NodeId id) { return id == layer_ || contains(path_, id); };
  for (NodeId id = layer_ + 1; id < graph.size(); ++id) {
    if (!net_.is_value(id)) continue;
    const std::vector<NodeId>& inputs = net_.inputs(id);
    if (std::none_of(inputs.begin(), inputs.end(), is_changed)) continue;
    behind_.push_back(id);
    const bool apart = std::all_of(inputs.begin(), inputs.end(), [&](NodeId input) {
      return is_apart(input) || !is_changed(input);
    });
    if (apart && keeps_apart(id))
      path_.push_back(id);
    else if (apart && adds_up(graph[id].op))
      mixing_.push_back(id);
    else
      rest_.push_back(id);
  }
}

/// By node: is its fault-free output needed?
std::vector<bool> ShiftedRuns::read_below() const {
  std::vector<bool> read(given_.size());
  for (const NodeId id : behind_)
    for (const NodeId input : net_.inputs(id))
      read[index(input)] = contains(path_, input) || !contains(behind_, input);
  for (const NodeId id : mixing_) read[index(id)] = true;
  return read;
}

void ShiftedRuns::compute_clean(const Trace& trace) {
  const std::vector<bool> kept = read_below();
  for (const NodeId id : values_around(net_, layer_)) given_[index(id)] = trace.at(index(id));
  for (NodeId id = layer_ + 1; id < net_.graph().size(); ++id) {
    if (!net_.is_value(id)) continue;
    std::vector<at::Tensor> in;
    for (const NodeId input : net_.inputs(id)) in.push_back(given_[index(input)]);
    given_[index(id)] = net_.compute(id, in);
    for (const NodeId input : net_.inputs(id))
      if (net_.last_reader(input) == id && !kept[index(input)]) given_[index(input)] = at::Tensor();
  }
  const at::Tensor clean = given_.back().to(at::kCPU).contiguous();
  classes_ = clean.size(1);
  logits_.assign(clean.data_ptr<float>(), clean.data_ptr<float>() + clean.numel());
}

/// Computes the path's channels, what rest_ reads of it and mixing_; false where that cannot be.
bool ShiftedRuns::shift_channels(const std::vector<Shift>& shifts, Trace& trace) const {
  const at::Tensor& output = given_[index(layer_)];
  if (!output.is_cpu() || output.dim() != 4 || path_.size() + mixing_.size() == 0) return false;
  std::vector<std::int64_t> images, channels;
  for (const Shift& shift : shifts) {
    images.push_back(shift.image);
    channels.push_back(shift.channel);
  }
  Trace maps(given_.size());
  maps[index(layer_)] = channels_of(output, shifts);
  for (std::size_t k = 0; k < shifts.size(); ++k)
    add_to(maps[index(layer_)][0][static_cast<std::int64_t>(k)], shifts[k]);
  for (const NodeId id : path_) {
    std::vector<at::Tensor> in;
    for (const NodeId input : net_.inputs(id)) {
      const at::Tensor& own = maps[index(input)];
      in.push_back(own.defined() ? own : channels_of(given_[index(input)], shifts));
    }
    maps[index(id)] = net_.compute_channels(id, in, at::tensor(channels));
  }
  for (const NodeId id : mixing_) {
    const NodeId input = net_.inputs(id)[0];
    const at::Tensor delta =
        (maps[index(input)] - channels_of(given_[index(input)], shifts)).squeeze(0).contiguous();
    if (!(delta.abs().max().item<float>() < kLargestDelta)) return false;
    std::vector<bool> changed;
    trace[index(id)] = kernels::add_channel(std::get<Conv>(net_.graph()[id].op), given_[index(id)],
                                            images, delta, channels, changed);
  }
  for (const NodeId id : rest_)
    for (const NodeId input : net_.inputs(id)) {
      if (!maps[index(input)].defined() || trace[index(input)].defined()) continue;
      trace[index(input)] = of_images(given_[index(input)], at::tensor(images));
      put_channels(trace[index(input)], shifts, maps[index(input)]);
    }
  return true;
}

/// [shifts, classes] f32, contiguous, on the CPU.
at::Tensor ShiftedRuns::logits(const std::vector<Shift>& shifts) const {
  std::vector<std::int64_t> numbers;
  for (const Shift& shift : shifts) numbers.push_back(shift.image);
  const at::Tensor images = at::tensor(numbers).to(given_[index(layer_)].device());
  Trace trace(given_.size());
  const bool channels = shift_channels(shifts, trace);
  if (!channels) {
    trace.assign(trace.size(), at::Tensor());
    trace[index(layer_)] = of_images(given_[index(layer_)], images);
    for (std::size_t k = 0; k < shifts.size(); ++k)
      add_shift(trace[index(layer_)], static_cast<std::int64_t>(k), shifts[k]);
  }
  for (const NodeId id : channels ? rest_ : behind_) {
    std::vector<at::Tensor> in;
    for (const NodeId input : net_.inputs(id)) {
      at::Tensor& own = trace[index(input)];
      if (!own.defined()) own = of_images(given_[index(input)], images);
      in.push_back(own);
    }
    for (const NodeId input : net_.inputs(id))
      if (net_.last_reader(input) == id) trace[index(input)] = at::Tensor();
    trace[index(id)] = net_.compute(id, std::move(in));
  }
  return trace.back().to(at::kCPU).contiguous();
}

Response ShiftedRuns::response(const float* logits, std::int64_t image) const {
  const std::int64_t predicted = predictions_[index(image)];
  const Spread own = spread(logits, classes_, predicted);
  if (!own.is_clear()) return {};
  Response response{false, own.distance < 0, {}};
  if (!clear_[index(image)]) return response;
  const float* clean = logits_.data() + image * classes_;
  for (std::int64_t j = 0; j < classes_; ++j) {
    const float before = clean[predicted] - clean[j], after = logits[predicted] - logits[j];
    response.closer.push_back(j == predicted ? 0 : (before - after) / before);
  }
  return response;
}

std::vector<Response> ShiftedRuns::responses(const std::vector<Shift>& shifts) const {
  const std::int64_t values = given_[index(layer_)][0].numel();
  const std::int64_t most = std::clamp(kValuesAtOnce / values, kFewest, kMost);
  std::vector<Response> all;
  for (auto first = shifts.begin(); first != shifts.end();) {
    const auto count = std::min<std::ptrdiff_t>(most, shifts.end() - first);
    const std::vector<Shift> some(first, first + count);
    const at::Tensor batch = logits(some);
    for (std::size_t k = 0; k < some.size(); ++k)
      all.push_back(response(batch.data_ptr<float>() + k * index(classes_), some[k].image));
    first += count;
  }
  return all;
}

}  // namespace sentinel
