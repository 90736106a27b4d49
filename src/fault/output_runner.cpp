#include "fault/output_runner.hpp"

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "fault/changes.hpp"
#include "sentinel/core/error.hpp"

namespace sentinel {
namespace {

using Numbers = std::vector<std::size_t>;  // of rows, ascending

/// `rows` times the shape of one row of x.
at::Tensor rows_like(const at::Tensor& x, std::size_t rows) {
  std::vector<std::int64_t> shape = x.sizes().vec();
  shape[0] = static_cast<std::int64_t>(rows);
  return in_rows(at::empty(shape, x.options()));
}

bool equal_bits(const at::Tensor& a, const at::Tensor& b) {
  return std::memcmp(a.data_ptr<float>(), b.data_ptr<float>(), a.nbytes()) == 0;
}

Numbers joined(const Numbers& a, const Numbers& b) {
  Numbers both;
  std::set_union(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(both));
  return both;
}

}  // namespace

/// One image of a trial.
struct OutputRunner::Row {
  const OutputTrial* trial = nullptr;
  std::int64_t image = 0, in_block = 0;
  std::size_t block = 0;
  std::vector<NodeId> nodes;  // whose outputs are hit, ascending
  NodeId first = 0;           // value that is hit first
};

/// Some rows that run together.
class OutputRunner::Chunk {
 public:
  Chunk(const OutputRunner& runner, const Row* begin, const Row* end,
        const std::map<std::size_t, Trace>& traces)
      : net_(runner.net_), rows_(begin), traces_(traces), held_(net_size()) {
    for (std::size_t r = 0; begin + r != end; ++r)
      for (const NodeId node : rows_[r].nodes) {
        const NodeId value = net_.value_of(node);
        const bool at_end =
            net_.is_value(node) && !std::holds_alternative<DuplicatedConv>(op(node));
        Numbers& hit = at_end ? hit_at_end_[value] : hit_inside_[value];
        if (hit.empty() || hit.back() != r) hit.push_back(r);
      }
  }

  void run() {
    for (NodeId id = rows_[0].first; id < net_.graph().size(); ++id) {
      if (!net_.is_value(id)) continue;
      compute(id);
      if (id == 0) continue;
      for (const NodeId input : net_.inputs(id))
        if (net_.last_reader(input) == id) held(input) = {};
    }
    const Held& logits = held(net_.graph().size() - 1);
    for (std::size_t i = 0; i < logits.rows.size(); ++i) {
      const Row& row = rows_[logits.rows[i]];
      row.trial->logits.select(0, row.image - row.trial->first)
          .copy_(logits.values.select(0, static_cast<std::int64_t>(i)));
    }
  }

 private:
  /// Rows of a value that are not as without faults.
  struct Held {
    Numbers rows;
    at::Tensor values;
  };
  std::size_t net_size() const { return static_cast<std::size_t>(net_.graph().size()); }
  const Op& op(NodeId node) const { return net_.graph()[node].op; }
  Held& held(NodeId id) { return held_[static_cast<std::size_t>(id)]; }
  const at::Tensor& clean_block(NodeId id, std::size_t row) const {
    return traces_.at(rows_[row].block).at(static_cast<std::size_t>(id));
  }
  at::Tensor clean(NodeId id, std::size_t row) const {
    return clean_block(id, row).select(0, rows_[row].in_block);
  }

  /// A value of these rows, of which some are changed.
  at::Tensor gather(NodeId id, const Held& own, const Numbers& rows) const {
    if (own.rows == rows) return own.values;
    at::Tensor all = rows_like(clean_block(id, rows.front()), rows.size());
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const auto found = std::lower_bound(own.rows.begin(), own.rows.end(), rows[i]);
      const bool changed = found != own.rows.end() && *found == rows[i];
      all.select(0, static_cast<std::int64_t>(i))
          .copy_(changed ? own.values.select(0, found - own.rows.begin()) : clean(id, rows[i]));
    }
    return all;
  }

  std::vector<at::Tensor> inputs(NodeId id, const Numbers& rows) {
    std::vector<at::Tensor> in;
    for (const NodeId input : net_.inputs(id)) in.push_back(gather(input, held(input), rows));
    return in;
  }

  /// Rows that read anything that is not as without faults.
  Numbers reached(NodeId id) {
    Numbers rows;
    if (id == 0) return rows;
    for (const NodeId input : net_.inputs(id)) rows = joined(rows, held(input).rows);
    return rows;
  }

  void compute(NodeId id) {
    const Numbers reached = this->reached(id), inside = hit_in(hit_inside_, id),
                  at_end = hit_in(hit_at_end_, id);
    Held now{joined(joined(reached, inside), at_end), {}};
    if (now.rows.empty()) return;
    if (!reached.empty()) now.values = in_rows(net_.compute(id, inputs(id, reached)));
    if (is_view(id, now.values)) now.values = now.values.clone();
    if (now.rows != reached) now.values = gather(id, {reached, now.values}, now.rows);
    if (!inside.empty()) put_inside(id, inside, now);
    if (!at_end.empty()) put(id, at_end, now.rows, now.values);
    keep_changed(id, std::move(now));
  }

  /// Whether what is put in here would show in a value that others read.
  bool is_view(NodeId id, const at::Tensor& values) {
    if (id == 0 || !values.defined()) return false;
    const auto shares = [&](NodeId input) {
      const at::Tensor& other = held(input).values;
      return other.defined() && values.is_alias_of(other);
    };
    const std::vector<NodeId>& in = net_.inputs(id);
    return std::any_of(in.begin(), in.end(), shares);
  }

  static Numbers hit_in(const std::map<NodeId, Numbers>& hits, NodeId id) {
    const auto found = hits.find(id);
    return found == hits.end() ? Numbers() : found->second;
  }

  /// Faults in nodes before the last one of a value: it is computed once with and once without
  /// them, both by LibTorch's operators. Few rows go with copies, which are not hit.
  void put_inside(NodeId id, const Numbers& inside, Held& now) {
    Numbers batch = inside;
    while (batch.size() < kImagesAlike) batch.push_back(batch[batch.size() - inside.size()]);
    const std::vector<at::Tensor> in = inputs(id, batch);
    const NodeId last = net_.parts(id).back();
    const at::Tensor without = in_rows(net_.compute_shown(id, in, [](NodeId, at::Tensor&) {}));
    const at::Tensor with =
        in_rows(net_.compute_shown(id, in, [&](NodeId node, at::Tensor& output) {
          const bool at_end = node == last && !std::holds_alternative<DuplicatedConv>(op(node));
          if (!at_end) put(node, inside, inside, output);
        }));
    for (std::size_t i = 0; i < inside.size(); ++i) {
      const auto place = std::lower_bound(now.rows.begin(), now.rows.end(), inside[i]);
      at::Tensor row = now.values.select(0, place - now.rows.begin());
      const auto k = static_cast<std::int64_t>(i);
      row.copy_(where_changed(without.select(0, k), with.select(0, k), row));
    }
  }

  /// The faults of a node in its output for these rows, where `all` says what lies in the output.
  void put(NodeId node, const Numbers& rows, const Numbers& all, at::Tensor& output) {
    std::map<OutputFaults*, std::vector<OutputFaults::Row>> by_trial;
    for (const std::size_t row : rows) {
      const auto place = std::lower_bound(all.begin(), all.end(), row) - all.begin();
      by_trial[rows_[row].trial->faults].push_back({place, rows_[row].image});
    }
    for (const auto& [faults, places] : by_trial) faults->apply(node, places, output);
  }

  void keep_changed(NodeId id, Held now) {
    Numbers kept, places;
    for (std::size_t i = 0; i < now.rows.size(); ++i) {
      const at::Tensor row = now.values.select(0, static_cast<std::int64_t>(i));
      const at::Tensor& block = clean_block(id, now.rows[i]);
      const bool same_layout = block.strides().slice(1) == now.values.strides().slice(1);
      const at::Tensor fault_free = clean(id, now.rows[i]);
      if (same_layout ? equal_bits(row, fault_free)
                      : equal_bits(row.contiguous(), fault_free.contiguous()))
        continue;
      kept.push_back(now.rows[i]);
      places.push_back(i);
    }
    if (kept.empty()) return;
    if (kept.size() < now.rows.size()) {
      at::Tensor some = rows_like(now.values, kept.size());
      for (std::size_t i = 0; i < places.size(); ++i)
        some.select(0, static_cast<std::int64_t>(i))
            .copy_(now.values.select(0, static_cast<std::int64_t>(places[i])));
      now.values = some;
    }
    held(id) = {std::move(kept), std::move(now.values)};
  }

  const FusedNet& net_;
  const Row* rows_;
  const std::map<std::size_t, Trace>& traces_;
  std::map<NodeId, Numbers> hit_inside_, hit_at_end_;  // rows by value
  std::vector<Held> held_;                             // by value
};

OutputRunner::OutputRunner(const FusedNet& net, const PrefixCache& cache, std::int64_t batch)
    : net_(net), cache_(cache), batch_(batch), first_of_{0} {
  for (NodeId id = 0; id < net.graph().size(); ++id)
    if (net.is_value(id)) values_.push_back(id);
  for (const at::Tensor& logits : cache.logits())
    first_of_.push_back(first_of_.back() + logits.size(0));
}

/// Rows that start alike follow each other; where values are not all kept, rows of a block do.
std::vector<OutputRunner::Row> OutputRunner::rows_of(const std::vector<OutputTrial>& trials) const {
  std::vector<Row> rows;
  for (const OutputTrial& trial : trials)
    for (std::int64_t image = trial.first; image < trial.first + trial.images; ++image) {
      Row row{&trial, image, 0, 0, trial.faults->nodes(image)};
      if (row.nodes.empty()) continue;
      const auto after = std::upper_bound(first_of_.begin(), first_of_.end(), image);
      row.block = static_cast<std::size_t>(after - first_of_.begin()) - 1;
      row.in_block = image - first_of_[row.block];
      row.first = net_.first_value(row.nodes);
      rows.push_back(std::move(row));
    }
  const bool by_block = !cache_.keeps_all();
  std::stable_sort(rows.begin(), rows.end(), [&](const Row& a, const Row& b) {
    if (by_block && a.block != b.block) return a.block < b.block;
    return a.first < b.first;
  });
  return rows;
}

void OutputRunner::run(const std::vector<OutputTrial>& trials) const {
  const std::vector<Row> rows = rows_of(trials);
  std::map<std::size_t, Trace> traces;
  for (std::size_t begin = 0, end = 0; begin < rows.size(); begin = end) {
    const auto follows = [&](const Row& row) {
      return cache_.keeps_all() || row.block == rows[begin].block;
    };
    const std::size_t most = std::min(rows.size(), begin + static_cast<std::size_t>(batch_));
    for (end = begin + 1; end < most && follows(rows[end]);) ++end;
    if (!cache_.keeps_all() && traces.count(rows[begin].block) == 0) traces.clear();
    for (std::size_t r = begin; r < end; ++r)
      if (traces.count(rows[r].block) == 0)
        traces[rows[r].block] = cache_.outputs(rows[r].block, 0, values_);
    Chunk(*this, &rows[begin], rows.data() + end, traces).run();
  }
}

}  // namespace sentinel
