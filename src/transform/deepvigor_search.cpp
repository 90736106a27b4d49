#include "transform/deepvigor_search.hpp"

#include <algorithm>

#include "sentinel/core/error.hpp"
#include "sentinel/graph/channels.hpp"
#include "transform/deepvigor_deviations.hpp"

namespace sentinel {
namespace {

constexpr int kSides = 2;
constexpr auto kSteps = static_cast<int>(kGridSide);

double shift_of(int side, int step) {
  const auto steps = static_cast<std::size_t>(step) + 1;
  return grid_value(side == 0 ? kGridZero + steps : kGridZero - steps);
}

void compute(const Graph& graph, NodeId id, Trace& trace) {
  std::vector<at::Tensor> inputs;
  for (const NodeId input : graph[id].inputs)
    inputs.push_back(trace[static_cast<std::size_t>(input)]);
  trace[static_cast<std::size_t>(id)] = sentinel::apply(graph[id].op, inputs);
}

/// What the network behind `reach` reads when the convolution gives `output`.
std::vector<at::Tensor> seen_maps(const Graph& graph, const Reach& reach, Trace trace, NodeId conv,
                                  const at::Tensor& output) {
  trace[static_cast<std::size_t>(conv)] = output;
  for (const NodeId id : reach.apart) compute(graph, id, trace);
  std::vector<at::Tensor> seen;
  for (const NodeId id : reach.seen) seen.push_back(trace[static_cast<std::size_t>(id)]);
  return seen;
}

/// [images, channels] u8, on the CPU: all maps [images, channels, H, W] agree bit for bit.
at::Tensor same_maps(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b,
                     const at::Tensor& output) {
  at::Tensor same = at::ones({output.size(0), output.size(1)}, output.options().dtype(at::kBool));
  for (std::size_t i = 0; i < a.size(); ++i)
    same = same & (a[i].view(at::kInt) == b[i].view(at::kInt)).flatten(2).all(2);
  return same.to(at::kCPU, at::kByte).contiguous();
}

}  // namespace

Trace trace_around(const Graph& graph, const at::Tensor& images, NodeId conv) {
  std::vector<bool> kept(static_cast<std::size_t>(graph.size()), false);
  for (const NodeId id : live_at(graph, conv)) kept[static_cast<std::size_t>(id)] = true;
  const auto readers = graph.consumers();
  Trace trace(static_cast<std::size_t>(graph.size()));
  trace[0] = images;
  for (NodeId id = 1; id <= conv; ++id) {
    compute(graph, id, trace);
    for (const NodeId input : graph[id].inputs) {
      const auto i = static_cast<std::size_t>(input);
      if (!kept[i] && readers[i].back() == id) trace[i] = at::Tensor();
    }
  }
  return trace;
}

Reach reach_of(const Graph& graph, NodeId conv) {
  std::vector<bool> reached(static_cast<std::size_t>(graph.size()), false), apart = reached;
  reached[static_cast<std::size_t>(conv)] = apart[static_cast<std::size_t>(conv)] = true;
  Reach reach;
  for (NodeId id = conv + 1; id < graph.size(); ++id) {
    bool touched = false, alike = keeps_channels_apart(graph[id].op);
    for (const NodeId input : graph[id].inputs) {
      const auto i = static_cast<std::size_t>(input);
      touched = touched || reached[i];
      alike = alike && (apart[i] || !reached[i]);
    }
    reached[static_cast<std::size_t>(id)] = touched;
    apart[static_cast<std::size_t>(id)] = touched && alike;
    if (!touched) reach.untouched.push_back(id);
    if (touched && alike) reach.apart.push_back(id);
  }
  const auto readers = graph.consumers();
  for (NodeId id = conv; id < graph.size(); ++id) {
    const auto& own = readers[static_cast<std::size_t>(id)];
    const bool mixed = std::any_of(own.begin(), own.end(), [&](NodeId reader) {
      return !apart[static_cast<std::size_t>(reader)];
    });
    if (apart[static_cast<std::size_t>(id)] && (mixed || id + 1 == graph.size()))
      reach.seen.push_back(id);
  }
  return reach;
}

DeltaSearch::DeltaSearch(const Graph& graph, NodeId conv, Trace trace, const std::string& images,
                         std::int64_t first)
    : graph_(graph), conv_(conv), trace_(std::move(trace)) {
  const at::Tensor output = trace_.at(static_cast<std::size_t>(conv));
  images_ = output.size(0);
  channels_ = output.size(1);
  const at::Tensor logits = logits_with(output);
  predictions_ = logits.argmax(1);
  const at::Tensor undefined = logits.isnan().any(1).to(at::kCPU).contiguous();
  const bool* begin = undefined.data_ptr<bool>();
  const auto image = std::find(begin, begin + images_, true) - begin;
  if (image < images_)
    throw DataError(images, "image " + std::to_string(first + image) +
                                " has logits that are NaN without faults; check the checkpoint");
  find_repeats(reach_of(graph, conv));
}

/// All channels are shifted at once, which tells of each alone as long as they are kept apart.
void DeltaSearch::find_repeats(const Reach& reach) {
  Trace trace = trace_;
  for (const NodeId id : reach.untouched) compute(graph_, id, trace);
  const at::Tensor& output = trace_[static_cast<std::size_t>(conv_)];
  const auto seen = [&](const at::Tensor& maps) {
    return seen_maps(graph_, reach, trace, conv_, maps);
  };
  const std::vector<at::Tensor> fault_free = seen(output);
  for (int side = 0; side < kSides; ++side) {
    std::vector<at::Tensor> before = fault_free;
    for (int step = 0; step < kSteps; ++step) {
      std::vector<at::Tensor> now = seen(output + shift_of(side, step));
      const at::Tensor same = same_maps(before, now, output);
      const auto* begin = same.data_ptr<std::uint8_t>();
      repeats_.insert(repeats_.end(), begin, begin + same.numel());
      before = std::move(now);
    }
  }
}

at::Tensor DeltaSearch::logits_with(const at::Tensor& output) const {
  Trace trace = trace_;
  trace[static_cast<std::size_t>(conv_)] = output;
  return run_lean(graph_, trace, conv_ + 1);
}

/// [images] bool, on the CPU: whose arg max the shift [images, channels, 1, 1] changes.
at::Tensor DeltaSearch::changed_by(const at::Tensor& shift) const {
  const at::Tensor& output = trace_[static_cast<std::size_t>(conv_)];
  at::Tensor shifted = at::empty_like(output);  // keeps the memory format
  at::add_out(shifted, output, shift.to(output.device()));
  return (logits_with(shifted).argmax(1) != predictions_).to(at::kCPU).contiguous();
}

void DeltaSearch::Turn::next_search() {
  step = 0;
  side = (side + 1) % kSides;
  if (side == 0) ++channel;
}

/// Passes steps that show the network nothing new; false where no step is left.
bool DeltaSearch::find_step(Turn& turn, std::int64_t image) const {
  const auto repeated = [&] {
    const std::int64_t row = (turn.side * kSteps + turn.step) * images_ + image;
    return repeats_[static_cast<std::size_t>(row * channels_ + turn.channel)] != 0;
  };
  while (turn.step < kSteps && repeated()) ++turn.step;
  return turn.step < kSteps;
}

std::vector<std::uint8_t> DeltaSearch::deltas(std::int64_t begin, std::int64_t end) const {
  std::vector<std::uint8_t> found(static_cast<std::size_t>((end - begin) * images_ * kSides));
  std::vector<Turn> turns(static_cast<std::size_t>(images_), Turn{begin});
  const auto record = [&](Turn& turn, std::int64_t image, int step) {
    const std::int64_t row = (turn.channel - begin) * images_ + image;
    found[static_cast<std::size_t>(row * kSides + turn.side)] = static_cast<std::uint8_t>(step);
    turn.next_search();
  };
  while (true) {
    // x + -0 is x, bit for bit.
    at::Tensor shift = at::full({images_, channels_, 1, 1}, -0.0F, at::kFloat);
    bool any = false;
    for (std::int64_t image = 0; image < images_; ++image) {
      Turn& turn = turns[static_cast<std::size_t>(image)];
      while (turn.channel < end && !find_step(turn, image)) record(turn, image, kSteps - 1);
      if (turn.channel == end) continue;
      any = true;
      shift.data_ptr<float>()[image * channels_ + turn.channel] =
          static_cast<float>(shift_of(turn.side, turn.step));
    }
    if (!any) return found;
    const at::Tensor changed = changed_by(shift);
    for (std::int64_t image = 0; image < images_; ++image) {
      Turn& turn = turns[static_cast<std::size_t>(image)];
      if (turn.channel == end) continue;
      if (changed.data_ptr<bool>()[image])
        record(turn, image, turn.step);
      else
        ++turn.step;
    }
  }
}

}  // namespace sentinel
