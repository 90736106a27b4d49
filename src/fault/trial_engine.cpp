#include "sentinel/fault/trial_engine.hpp"

#include <ATen/core/grad_mode.h>

#include <chrono>
#include <deque>
#include <map>
#include <optional>

#include "fault/batch_runner.hpp"
#include "fault/changes.hpp"
#include "fault/channel_patch.hpp"
#include "fault/output_runner.hpp"
#include "fault/reference_run.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/fault/fault_guard.hpp"
#include "sentinel/graph/visit.hpp"

namespace sentinel {
namespace {

struct TrialOutput {
  at::Tensor logits;  // [images, classes], on the device
  Reading reading;
  double seconds = 0;
};

/// Order of trials that tells equal ones.
struct ByTrial {
  bool operator()(const TrialInput* a, const TrialInput* b) const {
    return a->group != b->group ? a->group < b->group : a->faults < b->faults;
  }
};

constexpr auto kContiguous = at::MemoryFormat::Contiguous;
constexpr auto kChannelsLast = at::MemoryFormat::ChannelsLast;
constexpr std::uint64_t kNoiseDraws = 8;  // of a trial whose two paths differ

/// Trials whose logits are kept at once [bytes].
constexpr std::int64_t kWave = 64 << 20;

using Clock = std::chrono::steady_clock;

double since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

/// A trial that runs with others, and where its logits go.
struct WaitingTrial {
  std::vector<ReadChange> changes;
  ImageRange range;
  TrialOutput* output = nullptr;
  ChannelId hit = {};  // where all its changes lie in one
};

struct TrialEngine::State {
  Graph graph;  // reference path, NCHW
  Graph fast;   // without weight bounds; empty for reference_only
  FaultSpace space;
  std::unique_ptr<Memory> memory;  // of `graph`
  std::size_t most_records;
  std::vector<at::Tensor> blocks;  // images of the reference path
  std::vector<ImageRange> groups;
  at::Tensor labels;
  Golden golden;
  // Of the fast path, null for reference_only.
  std::unique_ptr<FusedNet> net;
  std::unique_ptr<PrefixCache> cache;
  std::int64_t trials_at_once = 0;
  std::unique_ptr<BatchRunner> batches;  // where trials run at once; else:
  std::unique_ptr<ChannelPatcher> patcher;
  std::unique_ptr<OutputRunner> output_runner;  // where the space is of outputs
  at::Tensor fast_golden, fast_host;  // fault-free logits [N, classes], on the device and the host

  State(Graph g, Batch images, const EngineOptions& options);
  void prepare_fast(const EngineOptions& options);
  ImageRange range(std::int32_t group) const;
  at::Tensor reference_logits(const ImageRange& range, OutputFaults* faults = nullptr) const {
    return reference_run(graph, blocks, range, {kContiguous, at::kFloat, faults});
  }
  /// A trial by the reference path on a network of `graph`'s tensors.
  struct Reference {
    at::Tensor logits;
    Reading reading;
  };
  Reference reference(const Faults& faults, const ImageRange& range, std::size_t most_records);
  at::Tensor dense_logits(const std::vector<ReadChange>& changes, const ImageRange& range) const;
  void patched_trials(NodeId conv, const std::vector<WaitingTrial>& trials) const;
  void batched_trials(std::vector<WaitingTrial>& trials) const;
  NodeId first_changed(const std::vector<ReadChange>& changes) const;
  std::vector<TrialOutput> output_trials(const TrialInput* begin, const TrialInput* end) const;
  std::vector<TrialOutput> fast_trials(const TrialInput* begin, const TrialInput* end) const;
  std::size_t wave() const;
  const at::Tensor& fault_free(EnginePath path) const {
    return path == EnginePath::kFast ? fast_host : golden.logits;
  }
  TrialOutcome outcome_of(const at::Tensor& logits, EnginePath path, const TrialInput& trial,
                          Reading&& reading) const;
  TrialResult result_of(const at::Tensor& logits, EnginePath path, const ImageRange& range,
                        const Faults& faults) const;
  NodeId first_node(const Faults& faults) const;
};

TrialEngine::State::State(Graph g, Batch images, const EngineOptions& options)
    : graph(std::move(g)),
      space(graph, options.selection),
      most_records(options.most_records),
      labels(images.labels.to(at::kCPU)) {
  if (images.images.size(0) == 0) throw UserError("fault injection needs at least one image");
  if (options.block < 1) throw UserError("the block size must be at least 1");
  if (options.trials_at_once < 0) throw UserError("the number of trials at once is negative");
  const at::NoGradGuard no_grad;
  graph.to(options.device);
  memory = std::make_unique<Memory>(graph);
  Blocks split =
      split_blocks(images.images.to(options.device).contiguous(), options.group, options.block);
  blocks = std::move(split.images);
  groups = std::move(split.groups);
  golden.logits = reference_logits(range(kNoGroup));
  golden.predictions = predictions_of(golden.logits);
  const TrialResult result = classify(golden.logits, golden.logits, labels);
  golden.correct = result.correct;
  golden.top5 = result.top5;
  if (!options.reference_only) prepare_fast(options);
}

void TrialEngine::State::prepare_fast(const EngineOptions& options) {
  fast = graph.clone();
  take_weight_bounds(fast);
  // On a GPU fp32 convolutions without TF32 are made for the contiguous format.
  const bool on_cpu = options.device.is_cpu();
  const auto format = on_cpu ? kChannelsLast : kContiguous;
  fast.to(options.device, format);
  std::vector<at::Tensor> parts;
  for (const at::Tensor& block : blocks) parts.push_back(block.contiguous(format));
  net = std::make_unique<FusedNet>(fast);
  cache = std::make_unique<PrefixCache>(*net, std::move(parts), options.cache_budget);
  fast_golden = at::cat(cache->logits());
  fast_host = on_host(cache->logits());
  trials_at_once = options.trials_at_once;
  if (trials_at_once == 0 && !on_cpu) trials_at_once = kTrialsAtOnce;
  if (trials_at_once > 0)
    batches = std::make_unique<BatchRunner>(*net, *cache, memory->tensors(), trials_at_once);
  else if (space.of_outputs())
    output_runner = std::make_unique<OutputRunner>(*net, *cache, options.block);
  else
    patcher = std::make_unique<ChannelPatcher>(*net, *cache, options.block);
}

/// Faults are ordered by tensor, those of each image.
NodeId TrialEngine::State::first_node(const Faults& faults) const {
  std::uint32_t first = faults[0].tensor;
  if (space.of_outputs())
    for (const FaultSite& site : faults) first = std::min(first, site.tensor);
  return space.tensors()[first].node;
}

ImageRange TrialEngine::State::range(std::int32_t group) const {
  if (group == kNoGroup) return {0, blocks.size(), 0, labels.size(0)};
  return groups.at(static_cast<std::size_t>(group));
}

/// The outcome of a trial that gave these logits on the images.
TrialResult TrialEngine::State::result_of(const at::Tensor& logits, EnginePath path,
                                          const ImageRange& range, const Faults& faults) const {
  TrialResult result = classify(logits, range.of(fault_free(path)), range.of(labels));
  if (!faults.empty()) result.first_node = static_cast<std::int32_t>(first_node(faults));
  result.path = path;
  return result;
}

TrialOutcome TrialEngine::State::outcome_of(const at::Tensor& logits, EnginePath path,
                                            const TrialInput& trial, Reading&& reading) const {
  const ImageRange own = range(trial.group);
  give_outcomes(reading.records, logits, own.of(fault_free(path)), own.first);
  TrialOutcome outcome;
  outcome.result = result_of(logits, path, own, trial.faults);
  outcome.faults = std::move(reading.records);
  outcome.n_faults = static_cast<std::uint32_t>(trial.faults.size());
  outcome.masked = reading.masked;
  outcome.words_wrong = reading.words_wrong;
  outcome.words_flagged = reading.words_flagged;
  return outcome;
}

TrialEngine::State::Reference TrialEngine::State::reference(const Faults& faults,
                                                            const ImageRange& range,
                                                            std::size_t most) {
  if (faults.empty()) return {range.of(golden.logits), {}};
  if (space.of_outputs()) {
    OutputFaults hits(space, faults, most);
    const at::Tensor logits = reference_logits(range, &hits);
    return {logits, hits.take()};
  }
  Reading reading = memory->read(space, faults, most);
  const FaultGuard guard(graph, *memory, std::move(reading.changes));
  return {reference_logits(range), std::move(reading)};
}

NodeId TrialEngine::State::first_changed(const std::vector<ReadChange>& changes) const {
  return memory->tensors()[changes.front().stored].node;
}

/// Everything from the first changed node on.
at::Tensor TrialEngine::State::dense_logits(const std::vector<ReadChange>& changes,
                                            const ImageRange& range) const {
  const Overlay overlay = overlay_of(fast, memory->tensors(), changes);
  const NodeId cut = cache->cut_before(first_changed(changes));
  std::vector<at::Tensor> parts;
  for (std::size_t block = range.first_block; block < range.last_block; ++block)
    parts.push_back(net->run(cache->start(block, cut), cut, overlay));
  return at::cat(parts);
}

/// Trials with changes in one channel of this convolution each.
void TrialEngine::State::patched_trials(NodeId conv,
                                        const std::vector<WaitingTrial>& trials) const {
  const auto start = Clock::now();
  std::vector<PatchTrial> patched;
  for (const WaitingTrial& trial : trials) {
    trial.output->logits = trial.range.of(fast_golden).clone();
    patched.push_back({trial.hit.channel, patcher->rows(trial.hit, trial.changes),
                       trial.range.first_block, trial.range.last_block, trial.output->logits});
  }
  patcher->run(conv, patched);
  for (const WaitingTrial& trial : trials)
    trial.output->seconds += since(start) / static_cast<double>(trials.size());
}

/// Trials with changes anywhere.
void TrialEngine::State::batched_trials(std::vector<WaitingTrial>& trials) const {
  const auto start = Clock::now();
  std::vector<BatchedTrial> batched;
  for (WaitingTrial& trial : trials) {
    trial.output->logits = trial.range.of(fast_golden).clone();
    std::vector<NodeId> nodes;
    for (const ChangeRange& own : by_tensor(trial.changes))
      nodes.push_back(memory->tensors()[own.first->stored].node);
    batched.push_back({net->first_value(nodes), trial.range.first_block, trial.range.last_block,
                       trial.output->logits, std::move(trial.changes)});
  }
  batches->run(batched);
  for (const WaitingTrial& trial : trials)
    trial.output->seconds += since(start) / static_cast<double>(trials.size());
}

/// Their images run together, so that they share the time.
std::vector<TrialOutput> TrialEngine::State::output_trials(const TrialInput* begin,
                                                           const TrialInput* end) const {
  const auto start = Clock::now();
  std::vector<TrialOutput> results(static_cast<std::size_t>(end - begin));
  std::deque<OutputFaults> faults;
  std::vector<OutputTrial> trials;
  std::vector<BatchedTrial> batched;
  for (std::size_t t = 0; t < results.size(); ++t) {
    const ImageRange own = range(begin[t].group);
    results[t].logits = own.of(fast_golden).clone();
    faults.emplace_back(space, begin[t].faults, most_records);
    if (begin[t].faults.empty()) continue;
    std::vector<NodeId> nodes;
    for (const FaultSite& site : begin[t].faults)
      nodes.push_back(space.tensors()[site.tensor].node);
    if (batches)
      batched.push_back({net->first_value(nodes),
                         own.first_block,
                         own.last_block,
                         results[t].logits,
                         {},
                         &faults.back()});
    else
      trials.push_back({&faults.back(), own.first, own.images, results[t].logits});
  }
  batches ? batches->run(batched) : output_runner->run(trials);
  for (std::size_t t = 0; t < results.size(); ++t) {
    results[t].reading = faults[t].take();
    results[t].seconds = since(start) / static_cast<double>(results.size());
  }
  return results;
}

std::vector<TrialOutput> TrialEngine::State::fast_trials(const TrialInput* begin,
                                                         const TrialInput* end) const {
  if (space.of_outputs()) return output_trials(begin, end);
  std::vector<TrialOutput> outputs(static_cast<std::size_t>(end - begin));
  std::map<const TrialInput*, std::size_t, ByTrial> first;  // of equal trials
  std::vector<std::size_t> same;
  std::map<NodeId, std::vector<WaitingTrial>> patched;
  std::vector<WaitingTrial> batched;
  for (const TrialInput* trial = begin; trial != end; ++trial) {
    const auto number = static_cast<std::size_t>(trial - begin);
    same.push_back(first.emplace(trial, number).first->second);
    if (same.back() != number) continue;
    const auto start = Clock::now();
    TrialOutput& output = outputs[number];
    const ImageRange own = range(trial->group);
    output.reading = memory->read(space, trial->faults, most_records);
    std::vector<ReadChange> changes = memory->through_bounds(std::move(output.reading.changes));
    output.reading.changes.clear();
    const ChannelId hit = batches ? ChannelId() : patcher->channel_of(memory->tensors(), changes);
    if (changes.empty())
      output.logits = own.of(fast_golden);
    else if (batches)
      batched.push_back({std::move(changes), own, &output});
    else if (hit.conv >= 0)
      patched[hit.conv].push_back({std::move(changes), own, &output, hit});
    else
      output.logits = dense_logits(changes, own);
    output.seconds = since(start);
  }
  if (!batched.empty()) batched_trials(batched);
  for (auto& [conv, trials] : patched) patched_trials(conv, trials);
  for (std::size_t t = 0; t < same.size(); ++t)
    if (same[t] != t) outputs[t] = {outputs[same[t]].logits, outputs[same[t]].reading, 0};
  return outputs;
}

/// How many trials' logits may be kept at once. A batch's worth of them always is.
std::size_t TrialEngine::State::wave() const {
  const std::int64_t row = golden.logits.size(1) * static_cast<std::int64_t>(sizeof(float));
  const std::int64_t images = groups.front().images;
  const std::int64_t least = std::max<std::int64_t>(1, trials_at_once);
  return static_cast<std::size_t>(std::max(least, kWave / (row * images)));
}

TrialEngine::TrialEngine(Graph graph, Batch images, const EngineOptions& options)
    : state_(std::make_unique<State>(std::move(graph), std::move(images), options)) {}
TrialEngine::TrialEngine(TrialEngine&&) noexcept = default;
TrialEngine::~TrialEngine() = default;

const Graph& TrialEngine::graph() const {
  return state_->graph;
}
const FaultSpace& TrialEngine::space() const {
  return state_->space;
}
const Golden& TrialEngine::golden() const {
  return state_->golden;
}
std::uint64_t TrialEngine::cache_bytes() const {
  return state_->cache ? state_->cache->bytes() : 0;
}
std::size_t TrialEngine::restart_points() const {
  return state_->cache ? state_->cache->cuts().size() : 0;
}

std::int64_t TrialEngine::trials_at_once() const {
  return state_->trials_at_once;
}

std::vector<TrialOutcome> TrialEngine::run_batch(const std::vector<TrialInput>& trials) {
  State& s = *state_;
  std::vector<TrialOutcome> outcomes;
  if (!s.cache) {
    for (const TrialInput& trial : trials)
      outcomes.push_back(run_reference(trial.faults, trial.group));
    return outcomes;
  }
  const at::NoGradGuard no_grad;
  const std::size_t wave = s.wave();
  for (std::size_t begin = 0; begin < trials.size(); begin += wave) {
    const std::size_t end = std::min(trials.size(), begin + wave);
    std::vector<TrialOutput> outputs = s.fast_trials(&trials[begin], trials.data() + end);
    std::vector<at::Tensor> logits;
    for (const TrialOutput& output : outputs) logits.push_back(output.logits);
    const at::Tensor host = on_host(logits);
    std::int64_t row = 0;
    for (std::size_t t = 0; t < outputs.size(); ++t) {
      const TrialInput& trial = trials[begin + t];
      const std::int64_t images = s.range(trial.group).images;
      outcomes.push_back(s.outcome_of(host.narrow(0, row, images), EnginePath::kFast, trial,
                                      std::move(outputs[t].reading)));
      outcomes.back().seconds = outputs[t].seconds;
      row += images;
    }
  }
  return outcomes;
}

TrialOutcome TrialEngine::run(const Faults& faults, std::int32_t group) {
  return run_batch({TrialInput{faults, group}}).front();
}

TrialOutcome TrialEngine::run_reference(const Faults& faults, std::int32_t group) {
  State& s = *state_;
  const at::NoGradGuard no_grad;
  const auto start = Clock::now();
  auto [logits, reading] = s.reference(faults, s.range(group), s.most_records);
  TrialOutcome outcome =
      s.outcome_of(logits, EnginePath::kReference, {faults, group}, std::move(reading));
  outcome.seconds = since(start);
  return outcome;
}

TrialLogits TrialEngine::logits(const Faults& faults, std::int32_t group) {
  State& s = *state_;
  if (!s.cache) return logits_reference(faults, group);
  const at::NoGradGuard no_grad;
  const TrialInput trial{faults, group};
  const at::Tensor logits = on_host({s.fast_trials(&trial, &trial + 1).front().logits});
  return {logits, predictions_of(logits),
          s.result_of(logits, EnginePath::kFast, s.range(group), faults)};
}

TrialLogits TrialEngine::logits_reference(const Faults& faults, std::int32_t group) {
  State& s = *state_;
  const at::NoGradGuard no_grad;
  const ImageRange range = s.range(group);
  const at::Tensor logits = s.reference(faults, range, 0).logits;
  return {logits, predictions_of(logits),
          s.result_of(logits, EnginePath::kReference, range, faults)};
}

TrialEngine::OtherRoundings TrialEngine::logits_rounded_otherwise(const Faults& faults,
                                                                  std::int32_t group) {
  State& s = *state_;
  const at::NoGradGuard no_grad;
  const ImageRange range = s.range(group);
  std::optional<OutputFaults> hits;
  std::vector<ReadChange> changes;
  if (s.space.of_outputs())
    hits.emplace(s.space, faults, 0);
  else
    changes = s.memory->read(s.space, faults).changes;
  OutputFaults* const shown = hits ? &*hits : nullptr;
  const FaultGuard guard(s.graph, *s.memory, std::move(changes));
  OtherRoundings found;
  const Graph magnitudes = magnitudes_of(s.graph);
  for (std::uint64_t draw = 0; draw < kNoiseDraws; ++draw)
    found.singles.push_back(
        reference_run(s.graph, s.blocks, range,
                      {kContiguous, at::kFloat, shown, RoundingDraw{&magnitudes, draw}}));
  Graph other = s.graph.clone();
  other.to(s.blocks.front().device(), kChannelsLast);
  found.singles.push_back(
      reference_run(other, s.blocks, range, {kChannelsLast, at::kFloat, shown}));
  for (NodeId id = 0; id < other.size(); ++id)
    for_each_tensor(other[id].op, [](const char*, at::Tensor& tensor) {
      if (tensor.is_floating_point()) tensor = tensor.to(at::kDouble);
    });
  found.doubles =
      reference_run(other, s.blocks, range, {kChannelsLast, at::kDouble, shown}).to(at::kFloat);
  return found;
}

}  // namespace sentinel
