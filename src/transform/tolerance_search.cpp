#include "transform/tolerance_search.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "sentinel/core/error.hpp"
#include "sentinel/core/rng.hpp"
#include "transform/quiet_steps.hpp"

namespace sentinel {
namespace {

constexpr std::size_t kSearchesAtOnce = 64;

std::size_t as_index(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

at::Tensor compute(const Graph& graph, NodeId id, const Trace& trace) {
  std::vector<at::Tensor> inputs;
  for (const NodeId input : graph[id].inputs) inputs.push_back(trace[as_index(input)]);
  return sentinel::apply(graph[id].op, inputs);
}

/// [images, channels, positions] bool: where the maps agree bit for bit.
at::Tensor same_places(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  at::Tensor same;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const at::Tensor equal = a[i].view(at::kInt) == b[i].view(at::kInt);
    const at::Tensor flat = equal.reshape({equal.size(0), equal.size(1), -1});
    same = same.defined() ? same & flat : flat;
  }
  return same;
}

/// A shift by the smallest one of side +.
double times(int side, int step) {
  return tolerance_value(side, step) / tolerance_value(0, 0);
}

/// Behind a huge shift rounding may decide on which side of a bound a value is, and such
/// restrictions make much of it.
bool jumps_behind(const Graph& graph, NodeId layer) {
  const auto& nodes = graph.nodes();
  return std::any_of(nodes.begin() + layer, nodes.end(), [](const Node& node) {
    const auto* bounded = std::get_if<BoundedActivation>(&node.op);
    return bounded && bounded->clipping != Clipping::kRangerClamp;
  });
}

std::vector<bool> on_cpu(const at::Tensor& flags) {
  const at::Tensor own = flags.to(at::kCPU).contiguous();
  return std::vector<bool>(own.data_ptr<bool>(), own.data_ptr<bool>() + own.numel());
}

double compared_share(ToleranceOrder order) {
  switch (order) {
    case ToleranceOrder::kExhaustive:
      return 0;
    case ToleranceOrder::kBisect:
      return 1.0 / 8;
    case ToleranceOrder::kProportional:
      return 1.0 / 128;
  }
  throw Bug("unknown order of steps");
}

}  // namespace

bool is_compared(ToleranceOrder order, NodeId layer, const FactorUnit& unit, std::int64_t image,
                 int side) {
  const std::string name =
      fmt::format("compared {} {} {} {}", unit.row, unit.position, image, side);
  Rng rng({seed_of(name), static_cast<std::uint32_t>(layer), 0, Purpose::kAudit});
  return rng.uniform() < compared_share(order);
}

at::Tensor raw_output(const Graph& graph, NodeId layer, const Trace& trace) {
  const auto* duplicated = std::get_if<DuplicatedConv>(&graph[layer].op);
  if (!duplicated || duplicated->duplicated.empty()) return trace[as_index(layer)];
  at::Tensor raw;
  apply_shown(graph, layer, {trace[as_index(graph[layer].inputs[0])]},
              [&](NodeId, at::Tensor& output) { raw = output.clone(); });
  return raw.contiguous(trace[as_index(layer)].suggest_memory_format());
}

ToleranceSearch::ToleranceSearch(const FusedNet& net, ToleranceQuery query, Trace trace,
                                 const std::string& images, std::int64_t first, EnginePath path)
    : graph_(net.graph()), query_(std::move(query)), trace_(std::move(trace)) {
  const NodeId layer = query_.layer;
  raw_ = keeps_copies() ? raw_output(graph_, layer, trace_) : trace_[as_index(layer)];
  images_ = raw_.size(0);
  note_channels();
  const Reach channels = reach_of_channels(graph_, layer);
  note_values(channels.untouched);
  predict(images, first);
  find_repeats(of_neurons() ? reach_of_neurons(graph_, layer) : channels);
  monotone_ = is_monotone_behind(graph_, layer);
  if (path == EnginePath::kFast && !keeps_copies() && !jumps_behind(graph_, layer))
    runs_.emplace(net, layer, trace_, predictions_);
}

bool ToleranceSearch::keeps_copies() const {
  const auto* op = std::get_if<DuplicatedConv>(&graph_[query_.layer].op);
  return query_.rule == ToleranceRule::kFactor && op && !op->duplicated.empty();
}

/// Copies behind the originals are merged into these.
void ToleranceSearch::note_channels() {
  channel_.resize(as_index(trace_[as_index(query_.layer)].size(1)));
  std::iota(channel_.begin(), channel_.end(), 0);
  if (!keeps_copies()) return;
  const auto& copies = std::get<DuplicatedConv>(graph_[query_.layer].op).duplicated;
  channel_.insert(channel_.end(), copies.begin(), copies.end());
}

void ToleranceSearch::note_values(const std::vector<NodeId>& untouched) {
  for (const NodeId id : untouched) trace_[as_index(id)] = compute(graph_, id, trace_);
  for (NodeId id = query_.layer + 1; id < graph_.size(); ++id)
    if (std::find(untouched.begin(), untouched.end(), id) == untouched.end()) behind_.push_back(id);
}

void ToleranceSearch::predict(const std::string& images, std::int64_t first) {
  const bool factor = query_.rule == ToleranceRule::kFactor;
  const at::Tensor logits = logits_with(raw_);
  predictions_ = logits.argmax(1);
  const std::vector<bool> bad =
      on_cpu((factor ? logits.isfinite().logical_not() : logits.isnan()).any(1));
  const auto image = std::find(bad.begin(), bad.end(), true) - bad.begin();
  if (image < images_)
    throw DataError(images, "image " + std::to_string(first + image) + " has logits that are " +
                                (factor ? "not finite" : "NaN") +
                                " without faults; check the checkpoint");
}

at::Tensor ToleranceSearch::merged(const at::Tensor& raw) const {
  if (!keeps_copies()) return raw;
  const auto& op = std::get<DuplicatedConv>(graph_[query_.layer].op);
  const std::int64_t out = op.out_channels();
  const at::Tensor index = at::tensor(op.duplicated, at::kLong).to(raw.device());
  const at::Tensor result = raw.narrow(1, 0, out).clone();
  return result.index_copy_(
      1, index,
      correct(result.index_select(1, index), raw.narrow(1, out, index.numel()), op.correction,
              op.low, op.high));
}

std::vector<at::Tensor> ToleranceSearch::seen_with(const Reach& reach,
                                                   const at::Tensor& raw) const {
  Trace trace = trace_;
  trace[as_index(query_.layer)] = merged(raw);
  for (const NodeId id : reach.apart) trace[as_index(id)] = compute(graph_, id, trace);
  std::vector<at::Tensor> maps;
  for (const NodeId id : reach.seen) maps.push_back(trace[as_index(id)]);
  return maps;
}

/// All channels are shifted at once, which tells of each alone as long as they are kept apart; but
/// copies after their originals.
void ToleranceSearch::find_repeats(const Reach& reach) {
  repeats_.assign(query_.units.size() * as_index(images_ * kToleranceSides * query_.steps), false);
  const std::int64_t originals = trace_[as_index(query_.layer)].size(1);
  compare_steps(reach, 0, originals);
  if (raw_.size(1) > originals) compare_steps(reach, originals, raw_.size(1) - originals);
}

void ToleranceSearch::compare_steps(const Reach& reach, std::int64_t first_row, std::int64_t rows) {
  const std::vector<at::Tensor> fault_free = seen_with(reach, raw_);
  for (int side = 0; side < kToleranceSides; ++side) {
    std::vector<at::Tensor> before = fault_free;
    for (int step = 0; step < query_.steps; ++step) {
      at::Tensor shifted = raw_.clone();
      shifted.narrow(1, first_row, rows).add_(tolerance_value(side, step));
      std::vector<at::Tensor> now = seen_with(reach, shifted);
      note_repeats(same_places(before, now), side, step, first_row, rows);
      before = std::move(now);
    }
  }
}

/// `same`: [images, channels, positions].
void ToleranceSearch::note_repeats(const at::Tensor& same, int side, int step,
                                   std::int64_t first_row, std::int64_t rows) {
  const at::Tensor flags = (of_neurons() ? same : same.all(2, true)).to(at::kCPU).contiguous();
  const auto flag = flags.accessor<bool, 3>();
  for (std::size_t unit = 0; unit < query_.units.size(); ++unit) {
    const FactorUnit& own = query_.units[unit];
    if (own.row < first_row || own.row >= first_row + rows) continue;
    for (std::int64_t image = 0; image < images_; ++image)
      repeats_[place({unit, image, side, step})] =
          flag[image][channel_[as_index(own.row)]][std::max<std::int64_t>(own.position, 0)];
  }
}

std::size_t ToleranceSearch::place(const Question& q) const {
  const std::size_t search =
      (q.unit * as_index(images_) + as_index(q.image)) * kToleranceSides + as_index(q.side);
  return search * as_index(query_.steps) + as_index(q.step);
}

at::Tensor ToleranceSearch::logits_with(const at::Tensor& raw) const {
  const auto readers = graph_.consumers();
  Trace trace = trace_;
  trace[as_index(query_.layer)] = merged(raw);
  for (const NodeId id : behind_) {
    trace[as_index(id)] = compute(graph_, id, trace);
    for (const NodeId input : graph_[id].inputs)
      if (readers[as_index(input)].back() == id) trace[as_index(input)] = at::Tensor();
  }
  return trace.back();
}

/// By the reference path; at most one shift of an image.
std::vector<bool> ToleranceSearch::matters(const std::vector<Shift>& shifts) const {
  at::Tensor raw = raw_.clone();
  for (const Shift& shift : shifts) add_shift(raw, shift.image, shift);
  const at::Tensor logits = logits_with(raw);
  at::Tensor changed = logits.argmax(1) != predictions_;
  if (query_.rule == ToleranceRule::kFactor)
    changed = changed | logits.isfinite().all(1).logical_not();
  const std::vector<bool> by_image = on_cpu(changed);
  std::vector<bool> result;
  for (const Shift& shift : shifts) result.push_back(by_image[as_index(shift.image)]);
  return result;
}

/// By the fast path where that is sure.
std::vector<Response> ToleranceSearch::responses(const std::vector<Question>& questions) const {
  std::vector<Shift> shifts;
  for (const Question& q : questions)
    shifts.push_back({q.image, query_.units[q.unit].row, query_.units[q.unit].position,
                      static_cast<float>(tolerance_value(q.side, q.step))});
  std::vector<Response> all =
      runs_ ? runs_->responses(shifts) : std::vector<Response>(shifts.size());
  std::vector<std::size_t> open;
  for (std::size_t i = 0; i < all.size(); ++i)
    if (all[i].open) open.push_back(i);
  while (!open.empty()) {
    std::vector<bool> taken(as_index(images_), false);
    std::vector<std::size_t> now, later;
    std::vector<Shift> some;
    for (const std::size_t i : open) {
      const std::size_t image = as_index(shifts[i].image);
      (taken[image] ? later : now).push_back(i);
      if (!taken[image]) some.push_back(shifts[i]);
      taken[image] = true;
    }
    const std::vector<bool> changed = matters(some);
    for (std::size_t k = 0; k < now.size(); ++k) all[now[k]].changed = changed[k];
    open = std::move(later);
  }
  return all;
}

StepSearch ToleranceSearch::steps_of(Question q, ToleranceOrder order,
                                     const Response& smallest) const {
  // There is nothing to be in proportion to.
  if (order == ToleranceOrder::kProportional && smallest.closer.empty())
    order = ToleranceOrder::kExhaustive;
  std::vector<int> steps;
  for (q.step = 0; q.step < query_.steps; ++q.step)
    if (order == ToleranceOrder::kBisect || !repeats_[place(q)]) steps.push_back(q.step);
  return {order, std::move(steps), expected_quiet(smallest, times(q.side, 0), query_.steps)};
}

/// Runs the searches. kProportional: both sides of a unit and image stand next to each other.
std::vector<std::uint8_t> ToleranceSearch::walk(const std::vector<Question>& searches,
                                                ToleranceOrder order) const {
  std::vector<Question> first_steps;
  for (std::size_t i = 0; i < searches.size(); i += kToleranceSides)
    first_steps.push_back(searches[i]);
  const std::vector<Response> smallest = order == ToleranceOrder::kProportional
                                             ? responses(first_steps)
                                             : std::vector<Response>(first_steps.size());
  struct Open {
    std::size_t number;
    StepSearch steps;
  };
  std::vector<Open> open;
  std::vector<std::uint8_t> found(searches.size());
  for (std::size_t next = 0; true;) {
    const auto done = std::stable_partition(open.begin(), open.end(),
                                            [](const Open& own) { return !own.steps.done(); });
    for (auto own = done; own != open.end(); ++own)
      found[own->number] =
          static_cast<std::uint8_t>(own->steps.first_change().value_or(query_.steps));
    open.erase(done, open.end());
    if (open.size() < kSearchesAtOnce && next < searches.size()) {
      open.push_back({next, steps_of(searches[next], order, smallest[next / kToleranceSides])});
      ++next;
      continue;
    }
    if (open.empty()) return found;
    std::vector<Question> asked;
    for (const Open& own : open) {
      asked.push_back(searches[own.number]);
      asked.back().step = own.steps.step();
    }
    const std::vector<Response> all = responses(asked);
    for (std::size_t i = 0; i < all.size(); ++i)
      open[i].steps.answer(all[i].changed,
                           disturbance(all[i], smallest[open[i].number / kToleranceSides],
                                       times(asked[i].side, asked[i].step)));
  }
}

Tolerances ToleranceSearch::find(std::size_t begin, std::size_t end, ToleranceOrder order) const {
  if (order == ToleranceOrder::kProportional && (!monotone_ || !runs_))
    order = ToleranceOrder::kExhaustive;
  std::vector<Question> searches, some;
  for (std::size_t unit = begin; unit < end; ++unit)
    for (std::int64_t image = 0; image < images_; ++image)
      for (int side = 0; side < kToleranceSides; ++side) searches.push_back({unit, image, side, 0});
  Tolerances result{walk(searches, order), {}};
  if (order == ToleranceOrder::kExhaustive) return result;
  std::vector<std::uint8_t> of_some;
  for (std::size_t i = 0; i < searches.size(); ++i) {
    const Question& q = searches[i];
    if (!is_compared(order, query_.layer, query_.units[q.unit], q.image, q.side)) continue;
    some.push_back(q);
    of_some.push_back(result.found[i]);
  }
  const std::vector<std::uint8_t> exact = walk(some, ToleranceOrder::kExhaustive);
  result.comparison.compared = exact.size();
  for (std::size_t i = 0; i < exact.size(); ++i)
    result.comparison.differing += exact[i] != of_some[i];
  if (order == ToleranceOrder::kProportional && result.comparison.differing > 0)
    result.found = walk(searches, ToleranceOrder::kExhaustive);
  return result;
}

}  // namespace sentinel
