#include "fault/batch_runner.hpp"

#include <algorithm>
#include <tuple>

#include "sentinel/core/error.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/graph/visit.hpp"

namespace sentinel {
namespace {

using Inputs = std::vector<at::Tensor>;

std::size_t index(NodeId id) {
  return static_cast<std::size_t>(id);
}

/// [N, ...] -> [T * N, ...].
at::Tensor repeated(const at::Tensor& x, std::int64_t times) {
  std::vector<std::int64_t> repeats(static_cast<std::size_t>(x.dim()), 1);
  repeats[0] = times;
  return x.repeat(repeats);
}

void move(Op& op, at::Device device) {
  for_each_tensor(op, [&](const char*, at::Tensor& values) { values = values.to(device); });
}

}  // namespace

/// Trials on one block of images; as many as there are, up to T.
struct BatchRunner::Batch {
  NodeId first = 0;
  std::size_t block = 0;
  const std::vector<BatchedTrial*>& trials;
  const std::vector<std::map<NodeId, NodeChange>>& changes;  // by trial
  std::int64_t images = 0;

  at::Tensor of_trial(const at::Tensor& x, std::size_t trial) const {
    return x.narrow(0, static_cast<std::int64_t>(trial) * images, images);
  }
};

BatchRunner::BatchRunner(const FusedNet& net, const PrefixCache& cache,
                         std::vector<StoredTensor> tensors, std::int64_t trials)
    : net_(net),
      cache_(cache),
      tensors_(std::move(tensors)),
      trials_(trials),
      host_(net.graph().clone()),
      first_image_{0} {
  host_.to(at::kCPU);
  for (const at::Tensor& block : cache.logits())
    first_image_.push_back(first_image_.back() + block.size(0));
  try {
    fault_free(0, 0);  // the largest batch there is
  } catch (const c10::Error& error) {
    if (std::string(error.what()).find("out of memory") == std::string::npos) throw;
    throw EnvironmentError(std::to_string(trials) + " trials at once on " +
                           std::to_string(first_image_[1]) +
                           " images each do not fit the memory of the device; take a smaller " +
                           spelled(Setting::kTrialsAtOnce) + ", " + spelled(Setting::kBatchSize) +
                           " or " + spelled(Setting::kCacheBudget));
  }
}

std::map<NodeId, NodeChange> BatchRunner::changes_of(const BatchedTrial& trial) const {
  std::map<NodeId, NodeChange> changes = node_changes(host_, tensors_, trial.changes);
  const at::Device device = cache_.logits().front().device();
  for (auto& [node, change] : changes) {
    move(change.faulty, device);
    if (!change.channels.defined()) {
      change.clean = net_.graph()[node].op;
      continue;
    }
    move(change.clean, device);
    change.channels = change.channels.to(device);
  }
  return changes;
}

/// One node for the images of all trials.
at::Tensor BatchRunner::step(const Batch& batch, NodeId node, const Inputs& in) const {
  const auto put = [&](NodeId, at::Tensor& output) {
    for (std::size_t t = 0; t < batch.trials.size(); ++t) {
      if (!batch.trials[t]->outputs) continue;
      std::vector<OutputFaults::Row> rows;
      for (std::int64_t i = 0; i < batch.images; ++i)
        rows.push_back(
            {static_cast<std::int64_t>(t) * batch.images + i, first_image_[batch.block] + i});
      batch.trials[t]->outputs->apply(node, rows, output);
    }
  };
  if (node == 0) {
    at::Tensor images = in[0].clone();
    put(0, images);
    return images;
  }
  at::Tensor out = apply_shown(net_.graph(), node, in, put);
  for (std::size_t t = 0; t < batch.changes.size(); ++t) {
    const auto found = batch.changes[t].find(node);
    if (found == batch.changes[t].end()) continue;
    const NodeChange& change = found->second;
    const Inputs own = {batch.of_trial(in[0], t)};
    const at::Tensor clean = sentinel::apply(change.clean, own),
                     faulty = sentinel::apply(change.faulty, own);
    at::Tensor rows = batch.of_trial(out, t);
    if (change.channels.defined())
      rows.index_copy_(1, change.channels,
                       where_changed(clean, faulty, rows.index_select(1, change.channels)));
    else
      rows.copy_(where_changed(clean, faulty, rows));
  }
  return out;
}

/// [T * images, classes].
at::Tensor BatchRunner::logits(const Batch& batch) const {
  std::vector<NodeId> live = net_.live_at(batch.first);
  if (batch.first == 0) live = {0};
  const Trace clean = cache_.outputs(batch.block, batch.first, live);
  Trace trace(clean.size());
  for (const NodeId id : live) trace[index(id)] = repeated(clean[index(id)], trials_);
  if (batch.first == 0) trace[0] = step(batch, 0, {trace[0]});
  for (NodeId id = std::max<NodeId>(batch.first, 1); id < net_.graph().size(); ++id) {
    if (!net_.is_value(id)) continue;
    Inputs in;
    for (const NodeId input : net_.inputs(id)) in.push_back(trace[index(input)]);
    for (const NodeId input : net_.inputs(id))
      if (net_.last_reader(input) == id) trace[index(input)] = at::Tensor();
    trace[index(id)] = net_.compute_parts(
        id, in, [&](NodeId node, const Inputs& own) { return step(batch, node, own); });
  }
  return trace.back();
}

/// Logits of images without faults in batches that start at this value.
const at::Tensor& BatchRunner::fault_free(NodeId first, std::size_t block) {
  at::Tensor& found = fault_free_[{first, block}];
  if (found.defined()) return found;
  const std::int64_t images = cache_.logits()[block].size(0);
  const std::vector<BatchedTrial*> trials;
  const std::vector<std::map<NodeId, NodeChange>> changes;
  const Batch batch{first, block, trials, changes, images};
  const at::Tensor all = logits(batch);
  const at::Tensor own = batch.of_trial(all, 0);
  if (!at::equal(all.view(at::kInt), repeated(own, trials_).view(at::kInt)))
    throw EnvironmentError(
        "this device gives equal images of a batch different values; use the reference by " +
        spelled(Setting::kEngine) + ", or the CPU by " + spelled(Setting::kDevice));
  return found = own.clone();
}

void BatchRunner::run_batch(NodeId first, const std::vector<BatchedTrial*>& trials) {
  std::vector<std::map<NodeId, NodeChange>> changes;
  for (const BatchedTrial* trial : trials) changes.push_back(changes_of(*trial));
  for (std::size_t block = trials[0]->first_block; block < trials[0]->last_block; ++block) {
    const at::Tensor& without = fault_free(first, block);
    const Batch batch{first, block, trials, changes, without.size(0)};
    const at::Tensor all = logits(batch);
    for (std::size_t t = 0; t < trials.size(); ++t) {
      const std::int64_t begin = first_image_[block] - first_image_[trials[t]->first_block];
      const at::Tensor to = trials[t]->logits.narrow(0, begin, batch.images);
      const at::Tensor own = batch.of_trial(all, t);
      const at::Tensor same =
          (own.view(at::kInt) == without.view(at::kInt)).all(1, /*keepdim=*/true);
      to.copy_(at::where(same, to, own));
    }
  }
}

void BatchRunner::run(std::vector<BatchedTrial>& trials) {
  using Key = std::tuple<NodeId, std::size_t, std::size_t>;
  std::map<Key, std::vector<BatchedTrial*>> alike;
  for (BatchedTrial& trial : trials)
    alike[{trial.first, trial.first_block, trial.last_block}].push_back(&trial);
  for (const auto& [key, own] : alike)
    for (std::size_t begin = 0; begin < own.size(); begin += index(trials_)) {
      const std::size_t end = std::min(own.size(), begin + index(trials_));
      run_batch(std::get<0>(key), {own.begin() + static_cast<std::ptrdiff_t>(begin),
                                   own.begin() + static_cast<std::ptrdiff_t>(end)});
    }
  // The time that trials are said to take is the device's, too.
  if (!trials.empty()) static_cast<void>(trials.back().logits.flatten()[0].item<float>());
}

}  // namespace sentinel
