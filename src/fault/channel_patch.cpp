#include "fault/channel_patch.hpp"

#include <algorithm>
#include <map>

#include "fault/changes.hpp"
#include "sentinel/graph/kernels.hpp"

namespace sentinel {
namespace {

// Trials whose channels are computed at once: so many, and so many values of one layer's maps.
constexpr std::size_t kTogether = 64, kValuesTogether = 1 << 22;
// Differences up to this are added to fault-free outputs: with weights below 2^32 (mixing) no sum
// overflows, whatever its order.
constexpr float kLargestDelta = 0x1p64F;

std::size_t index(NodeId id) {
  return static_cast<std::size_t>(id);
}

/// index_select that keeps channels_last.
at::Tensor of_images(const at::Tensor& x, const at::Tensor& images) {
  if (x.dim() != 4) return x.index_select(0, images);
  return x.permute({0, 2, 3, 1}).index_select(0, images).permute({0, 3, 1, 2});
}

/// Where two tensors differ in a bit: 0.0 and -0.0 do, equal NaNs do not.
at::Tensor differs(const at::Tensor& a, const at::Tensor& b) {
  return a.contiguous().view(at::kInt) != b.contiguous().view(at::kInt);
}

/// Rows of a convolution's weight that make up an output channel.
std::vector<std::int64_t> rows_of(const Op& op, std::int64_t channel) {
  const auto* conv = std::get_if<DuplicatedConv>(&op);
  if (!conv) return {channel};
  const auto& duplicated = conv->duplicated;
  const auto copy = std::find(duplicated.begin(), duplicated.end(), channel);
  if (copy == duplicated.end()) return {channel};
  return {channel, conv->out_channels() + (copy - duplicated.begin())};
}

std::int64_t channel_of_row(const Op& op, std::int64_t row) {
  const auto* conv = std::get_if<DuplicatedConv>(&op);
  if (!conv || row < conv->out_channels()) return row;
  return conv->duplicated[index(row - conv->out_channels())];
}

/// Output maps [N, F, H, W] of single rows, without bias: row f [1, in/groups, kh, kw] reads the
/// input block of output channel channels[f].
at::Tensor convolve_rows(const Conv& conv, std::int64_t out_channels, const at::Tensor& x,
                         const at::Tensor& rows, const std::vector<std::int64_t>& channels) {
  Conv geometry = conv;
  geometry.weight = conv.weight.narrow(0, 0, out_channels);
  geometry.bias = at::Tensor();
  return kernels::filter_outputs(geometry, x, rows, channels);
}

}  // namespace

/// Some trials on one block of images.
struct ChannelPatcher::Batch {
  const std::vector<PatchTrial*>& trials;
  Trace given;                         // fault-free
  std::vector<std::int64_t> channels;  // of each trial, then every one of them once
  at::Tensor clean_of;                 // [trials] where in `channels` the trial's own is once more
  Trace
      outputs;  // of the path's values [n, channels, ...]: each trial's, then those without faults

  at::Tensor faulty(NodeId id) const {
    return outputs[index(id)].narrow(1, 0, static_cast<std::int64_t>(trials.size()));
  }
  at::Tensor clean(NodeId id) const { return outputs[index(id)].index_select(1, clean_of); }
};

/// Images of trials, sorted by trial.
struct ChannelPatcher::Pairs {
  std::vector<std::int64_t> trial, image;

  std::size_t size() const { return trial.size(); }
  void add(std::int64_t t, std::int64_t i) {
    trial.push_back(t);
    image.push_back(i);
  }
  Pairs part(std::size_t first, std::size_t last) const {
    Pairs some;
    for (std::size_t k = first; k < std::min(last, size()); ++k) some.add(trial[k], image[k]);
    return some;
  }
};

ChannelPatcher::ChannelPatcher(const FusedNet& net, const PrefixCache& cache, std::int64_t batch)
    : net_(net), cache_(cache), batch_(batch) {
  for (NodeId id = 0; id < net.graph().size(); ++id) routes_.push_back(channel_route(net, id));
  std::int64_t images = 0;
  for (const at::Tensor& logits : cache.logits()) {
    first_image_.push_back(images);
    images += logits.size(0);
  }
  first_image_.push_back(images);
}

ChannelId ChannelPatcher::channel_of(const std::vector<StoredTensor>& tensors,
                                     const std::vector<ReadChange>& changes) const {
  if (changes.empty()) return {};
  const std::uint32_t stored = changes.front().stored;
  const StoredTensor& tensor = tensors[stored];
  if (tensor.kind != TensorClass::kWeight || !routes_[index(tensor.node)]) return {};
  const auto channel = [&](const ReadChange& change) {
    return channel_of_row(net_.graph()[tensor.node].op,
                          static_cast<std::int64_t>(change.element / tensor.row));
  };
  for (const ReadChange& change : changes)
    if (change.stored != stored || channel(change) != channel(changes.front())) return {};
  return {tensor.node, channel(changes.front())};
}

at::Tensor ChannelPatcher::rows(const ChannelId& id, const std::vector<ReadChange>& changes) const {
  const Op& op = net_.graph()[id.conv].op;
  return changed_rows(as_conv(op)->weight, rows_of(op, id.channel),
                      {changes.data(), changes.data() + changes.size()});
}

/// Images of trials, of any blocks, to be run together from the route's end on.
struct ChannelPatcher::Waiting {
  std::vector<Trace> traces;                               // what the run reads
  std::vector<std::pair<PatchTrial*, std::int64_t>> rows;  // where each image's logits go
};

void ChannelPatcher::run(NodeId conv, std::vector<PatchTrial>& trials) const {
  const ChannelRoute& route = *routes_[index(conv)];
  std::array<Waiting, 2> waiting;  // with and without the next convolutions' outputs
  for (std::size_t block = 0; block < cache_.blocks(); ++block) {
    const auto images = static_cast<std::size_t>(first_image_[block + 1] - first_image_[block]);
    const std::size_t most =
        std::clamp<std::size_t>(kValuesTogether / (2 * images * route.map), 1, kTogether);
    std::vector<PatchTrial*> here;
    for (PatchTrial& trial : trials) {
      if (trial.first_block <= block && block < trial.last_block) here.push_back(&trial);
      if (here.size() < most) continue;
      run_block(route, block, here, waiting);
      here.clear();
    }
    if (!here.empty()) run_block(route, block, here, waiting);
  }
  for (Waiting& queue : waiting) flush(route, queue);
}

/// Maps [N, F, H, W] of output channels computed from these rows, one tensor per channel.
at::Tensor ChannelPatcher::channel_outputs(const ChannelRoute& route, const at::Tensor& x,
                                           const std::vector<std::int64_t>& channels,
                                           const std::vector<at::Tensor>& rows) const {
  const Op& op = net_.graph()[route.conv].op;
  const Conv& conv = *as_conv(op);
  const std::int64_t out = out_channels_of(op);
  std::vector<std::int64_t> row_channels, row_numbers, first_row;
  for (std::size_t f = 0; f < channels.size(); ++f) {
    first_row.push_back(static_cast<std::int64_t>(row_channels.size()));
    for (const std::int64_t row : rows_of(op, channels[f])) {
      row_channels.push_back(channels[f]);
      row_numbers.push_back(row);
    }
  }
  const at::Tensor all = at::cat(rows);
  at::Tensor maps = convolve_rows(conv, out, x, all, row_channels);
  if (conv.bias.defined())
    maps.add_(conv.bias.index_select(0, at::tensor(row_numbers)).view({1, -1, 1, 1}));
  const auto* duplicated = std::get_if<DuplicatedConv>(&op);
  if (!duplicated) return maps;
  std::vector<at::Tensor> merged;
  for (std::size_t f = 0; f < channels.size(); ++f) {
    const std::vector<std::int64_t> own = rows_of(op, channels[f]);
    const at::Tensor a = maps.narrow(1, first_row[f], 1);
    if (own.size() == 1) {
      merged.push_back(a);
      continue;
    }
    const at::Tensor copy = at::tensor(std::vector<std::int64_t>{own[1] - out});
    at::Tensor same = (rows[f].narrow(0, 0, 1) == rows[f].narrow(0, 1, 1)).all().view({1});
    if (conv.bias.defined())
      same = same & (conv.bias.narrow(0, own[0], 1) == conv.bias.narrow(0, own[1], 1));
    merged.push_back(correct(a, maps.narrow(1, first_row[f] + 1, 1), duplicated->correction,
                             of_channels(duplicated->low, copy),
                             of_channels(duplicated->high, copy), same));
  }
  return at::cat(merged, 1);
}

/// The path's values of all trials' channels and of the same channels without faults.
void ChannelPatcher::follow(const ChannelRoute& route, Batch& batch) const {
  std::vector<std::int64_t> clean_of;
  std::vector<at::Tensor> rows;
  for (const PatchTrial* trial : batch.trials) {
    batch.channels.push_back(trial->channel);
    rows.push_back(trial->rows);
  }
  std::map<std::int64_t, std::int64_t> place;
  for (const PatchTrial* trial : batch.trials) {
    const auto next = static_cast<std::int64_t>(batch.channels.size());
    const auto [at, is_new] = place.emplace(trial->channel, next);
    clean_of.push_back(at->second);
    if (!is_new) continue;
    batch.channels.push_back(trial->channel);
    rows.push_back(this->rows({route.conv, trial->channel}));
  }
  const at::Tensor& x = batch.given[index(net_.inputs(route.conv)[0])];
  const at::Tensor channels = at::tensor(batch.channels);
  batch.clean_of = at::tensor(clean_of);
  batch.outputs.resize(batch.given.size());
  batch.outputs[index(route.conv)] = channel_outputs(route, x, batch.channels, rows);
  for (const NodeId id : route.path) {
    if (id == route.conv) continue;
    std::vector<at::Tensor> in;
    for (const NodeId input : net_.inputs(id))
      in.push_back(route.goes_through(input) ? batch.outputs[index(input)]
                                             : batch.given[index(input)].index_select(1, channels));
    batch.outputs[index(id)] = net_.compute_channels(id, in, channels);
  }
}

/// The images of trials that have a value that differs: those whose differences can be added to
/// fault-free outputs, and the others.
std::array<ChannelPatcher::Pairs, 2> ChannelPatcher::find_pairs(const ChannelRoute& route,
                                                                const Batch& batch) const {
  const auto trials = static_cast<std::int64_t>(batch.trials.size());
  const at::Tensor& outputs = batch.outputs[index(route.conv)];
  at::Tensor hit = at::zeros({trials, outputs.size(0)}, at::kBool);
  at::Tensor huge = at::full({trials, outputs.size(0)}, route.mixing.empty(), at::kBool);
  const at::Tensor own = at::tensor(batch.channels).narrow(0, 0, trials);
  for (const NodeId id : route.changed) {
    const at::Tensor faulty = batch.faulty(id);
    const std::vector<std::int64_t> maps = {outputs.size(0), trials, -1};
    hit |= differs(faulty, batch.clean(id)).reshape(maps).any(2).t();
    const at::Tensor difference = faulty - batch.given[index(id)].index_select(1, own);
    // A comparison with NaN is false.
    huge |= difference.abs().le(kLargestDelta).reshape(maps).all(2).logical_not().t();
  }
  std::array<Pairs, 2> pairs;
  const bool *is_hit = hit.data_ptr<bool>(), *is_huge = huge.data_ptr<bool>();
  for (std::int64_t t = 0; t < trials; ++t)
    for (std::int64_t i = 0; i < outputs.size(0); ++i, ++is_hit, ++is_huge)
      if (*is_hit) pairs[*is_huge ? 1 : 0].add(t, i);
  return pairs;
}

/// Whether only convolutions of `mixing` read a changed value.
bool ChannelPatcher::mixes(const ChannelRoute& route, NodeId value) const {
  for (NodeId id = route.resume; id < net_.graph().size(); ++id) {
    const std::vector<NodeId>& in = net_.inputs(id);
    if (std::find(in.begin(), in.end(), value) == in.end()) continue;
    if (std::none_of(route.mixing.begin(), route.mixing.end(),
                     [&](const MixingConv& conv) { return conv.node == id; }))
      return false;
  }
  return true;
}

/// What a run of these images from the route's end reads. `mixing`: with the outputs of the next
/// convolutions, by differences; of the pairs only those stay of which something is noticed.
Trace ChannelPatcher::start(const ChannelRoute& route, const Batch& batch, Pairs& pairs,
                            bool mixing) const {
  const at::Tensor trials = at::tensor(pairs.trial), images = at::tensor(pairs.image);
  std::vector<std::int64_t> own;
  for (const std::int64_t t : pairs.trial) own.push_back(batch.channels[index(t)]);
  const at::Tensor channels = at::tensor(own);
  Trace trace(batch.given.size());
  std::vector<bool> noticed(pairs.size(), !(mixing && route.mixing_only));
  for (const NodeId id : net_.live_at(route.resume)) {
    const at::Tensor& given = batch.given[index(id)];
    if (!route.changes(id)) {
      trace[index(id)] = of_images(given, images);
      continue;
    }
    const at::Tensor known = at::index(given, {images, channels});
    at::Tensor faulty = at::index(batch.faulty(id), {images, trials});
    faulty =
        at::where(differs(faulty, at::index(batch.clean(id), {images, trials})), faulty, known);
    if (!mixing || !mixes(route, id)) {
      trace[index(id)] = of_images(given, images);
      trace[index(id)].index_put_({at::arange(channels.numel(), channels.options()), channels},
                                  faulty);
    }
    if (!mixing) continue;
    const at::Tensor difference = (faulty - known).contiguous();
    for (const MixingConv& conv : route.mixing) {
      if (net_.inputs(conv.node)[0] != id) continue;
      std::vector<bool> changed;
      trace[index(conv.node)] = kernels::add_channel(conv.conv, batch.given[index(conv.node)],
                                                     pairs.image, difference, own, changed);
      for (std::size_t k = 0; k < changed.size(); ++k) noticed[k] = noticed[k] || changed[k];
    }
  }
  std::vector<std::int64_t> kept;
  for (std::size_t k = 0; k < noticed.size(); ++k)
    if (noticed[k]) kept.push_back(static_cast<std::int64_t>(k));
  if (kept.size() == noticed.size()) return trace;
  Pairs rest;
  for (const std::int64_t k : kept) rest.add(pairs.trial[index(k)], pairs.image[index(k)]);
  pairs = std::move(rest);
  for (at::Tensor& values : trace)
    if (values.defined() && !kept.empty()) values = of_images(values, at::tensor(kept));
  return trace;
}

/// Runs the images that wait and puts their logits in place.
void ChannelPatcher::flush(const ChannelRoute& route, Waiting& waiting) const {
  if (waiting.rows.empty()) return;
  Trace trace(waiting.traces.front().size());
  for (std::size_t id = 0; id < trace.size(); ++id) {
    if (!waiting.traces.front()[id].defined()) continue;
    std::vector<at::Tensor> parts;
    for (Trace& part : waiting.traces) parts.push_back(std::move(part[id]));
    trace[id] = parts.size() == 1 ? std::move(parts[0]) : at::cat(parts);
  }
  waiting.traces.clear();
  const at::Tensor logits = net_.run(std::move(trace), route.resume);
  for (std::size_t first = 0, last = 0; first < waiting.rows.size(); first = last) {
    PatchTrial& trial = *waiting.rows[first].first;
    std::vector<std::int64_t> places;
    for (; last < waiting.rows.size() && waiting.rows[last].first == &trial; ++last)
      places.push_back(waiting.rows[last].second);
    trial.logits.index_copy_(0, at::tensor(places),
                             logits.narrow(0, static_cast<std::int64_t>(first),
                                           static_cast<std::int64_t>(places.size())));
  }
  waiting.rows.clear();
}

void ChannelPatcher::run_block(const ChannelRoute& route, std::size_t block,
                               const std::vector<PatchTrial*>& trials,
                               std::array<Waiting, 2>& waiting) const {
  Batch batch{trials, cache_.outputs(block, route.conv, route.given), {}, {}, {}};
  follow(route, batch);
  const std::array<Pairs, 2> pairs = find_pairs(route, batch);
  const auto most = static_cast<std::size_t>(batch_);
  for (const bool mixing : {true, false}) {
    Waiting& queue = waiting[mixing ? 0 : 1];
    const Pairs& some = pairs[mixing ? 0 : 1];
    for (std::size_t first = 0; first < some.size(); first += most) {
      Pairs slice = some.part(first, first + most);
      Trace trace = start(route, batch, slice, mixing);
      if (queue.rows.size() + slice.size() > most) flush(route, queue);
      if (slice.size() > 0) queue.traces.push_back(std::move(trace));
      for (std::size_t k = 0; k < slice.size(); ++k) {
        PatchTrial* trial = trials[index(slice.trial[k])];
        queue.rows.emplace_back(
            trial, slice.image[k] + first_image_[block] - first_image_[trial->first_block]);
      }
    }
  }
}

}  // namespace sentinel
