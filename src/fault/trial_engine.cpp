#include "sentinel/fault/trial_engine.hpp"

#include <chrono>

#include "fault/channel_patch.hpp"
#include "sentinel/core/error.hpp"

namespace sentinel {
namespace {

/// Some images: those of a group, or all.
struct Part {
  std::size_t first_block = 0, last_block = 0;  // [first, last)
  std::int64_t first = 0, images = 0;

  at::Tensor of(const at::Tensor& all) const { return all.narrow(0, first, images); }
};

/// Blocks of images, none of which reaches over the border of a group, and the groups.
struct Blocks {
  std::vector<at::Tensor> images;
  std::vector<Part> groups;  // by number
};

Blocks split_blocks(const at::Tensor& images, const EngineOptions& options) {
  const std::int64_t count = images.size(0);
  const std::int64_t size = options.group > 0 ? options.group : count;
  Blocks blocks;
  for (std::int64_t first = 0; first < count; first += size) {
    Part part{blocks.images.size(), 0, first, std::min(size, count - first)};
    for (const at::Tensor& block : part.of(images).split(options.block, 0))
      blocks.images.push_back(block);
    part.last_block = blocks.images.size();
    blocks.groups.push_back(part);
  }
  return blocks;
}

/// One copy to the host for all blocks.
at::Tensor on_host(const std::vector<at::Tensor>& blocks) {
  return at::cat(blocks, 0).to(at::kCPU).contiguous();
}

struct TrialOutput {
  at::Tensor logits;  // [N, classes], CPU
  std::vector<FaultRecord> faults;
};

}  // namespace

struct TrialEngine::State {
  Graph graph;  // reference path, NCHW
  Graph fast;   // channels_last, without weight bounds; empty for reference_only
  FaultSpace space;
  std::vector<ReadRange> ranges;   // the weight bounds of the fast path
  std::vector<at::Tensor> blocks;  // images of the reference path
  std::vector<Part> groups;
  at::Tensor labels;
  Golden golden;
  std::unique_ptr<PrefixCache> cache;       // null for reference_only
  at::Tensor fast_golden;                   // [N, classes], CPU
  std::unique_ptr<ChannelPatcher> patcher;  // null for reference_only and on GPUs

  State(Graph g, Batch images, const EngineOptions& options);
  void prepare_fast(const EngineOptions& options);
  Part part(std::int32_t group) const;
  at::Tensor reference_logits(const Part& part) const;
  at::Tensor fast_logits(NodeId first_node, const Part& part) const;
  TrialOutput dense_trial(const Faults& faults, const Part& part);
  TrialOutput patched_trial(const Faults& faults, const FilterId& filter, const Part& part);
  TrialOutput fast_trial(const Faults& faults, const Part& part);
  TrialResult result_of(const at::Tensor& logits, EnginePath path, const Part& part,
                        const Faults& faults) const;
  NodeId first_node(const Faults& faults) const { return space.tensors()[faults[0].tensor].node; }
};

TrialEngine::State::State(Graph g, Batch images, const EngineOptions& options)
    : graph(std::move(g)), space(graph), labels(images.labels.to(at::kCPU)) {
  if (images.images.size(0) == 0) throw UserError("fault injection needs at least one image");
  if (options.block < 1) throw UserError("the block size must be at least 1");
  const at::NoGradGuard no_grad;
  graph.to(options.device);
  Blocks split = split_blocks(images.images.to(options.device).contiguous(), options);
  blocks = std::move(split.images);
  groups = std::move(split.groups);
  golden.logits = reference_logits(part(kNoGroup));
  golden.predictions = predictions_of(golden.logits);
  const TrialResult result = classify(golden.logits, golden.logits, labels);
  golden.correct = result.correct;
  golden.top5 = result.top5;
  if (!options.reference_only) prepare_fast(options);
}

void TrialEngine::State::prepare_fast(const EngineOptions& options) {
  fast = graph.clone();
  ranges = take_weight_bounds(fast, space);
  fast.to(options.device, at::MemoryFormat::ChannelsLast);
  std::vector<at::Tensor> parts;
  for (const at::Tensor& block : blocks)
    parts.push_back(block.contiguous(at::MemoryFormat::ChannelsLast));
  cache = std::make_unique<PrefixCache>(fast, std::move(parts), options.cache_budget);
  fast_golden = on_host(cache->logits());
  // On a GPU asking which images changed would stall its queue in every block.
  if (options.device.is_cpu()) patcher = std::make_unique<ChannelPatcher>(fast, *cache);
}

Part TrialEngine::State::part(std::int32_t group) const {
  if (group == kNoGroup) return {0, blocks.size(), 0, labels.size(0)};
  return groups.at(static_cast<std::size_t>(group));
}

/// Of a trial whose logits of the part these are.
TrialResult TrialEngine::State::result_of(const at::Tensor& logits, EnginePath path,
                                          const Part& part, const Faults& faults) const {
  const at::Tensor& fault_free = path == EnginePath::kFast ? fast_golden : golden.logits;
  TrialResult result = classify(logits, part.of(fault_free), part.of(labels));
  if (!faults.empty()) result.first_node = static_cast<std::int32_t>(first_node(faults));
  result.path = path;
  return result;
}

at::Tensor TrialEngine::State::reference_logits(const Part& part) const {
  std::vector<at::Tensor> parts;
  for (std::size_t block = part.first_block; block < part.last_block; ++block)
    parts.push_back(sentinel::logits(graph, blocks[block]));
  return on_host(parts);
}

at::Tensor TrialEngine::State::fast_logits(NodeId first_node, const Part& part) const {
  const NodeId cut = cache->cut_before(first_node);
  std::vector<at::Tensor> parts;
  for (std::size_t block = part.first_block; block < part.last_block; ++block)
    parts.push_back(run_lean(fast, cache->start(block, cut), cut, Copies::kDiffering));
  return on_host(parts);
}

TrialOutput TrialEngine::State::dense_trial(const Faults& faults, const Part& part) {
  const FaultGuard guard(fast, space, faults, ranges);
  return {fast_logits(first_node(faults), part), guard.records()};
}

TrialOutput TrialEngine::State::patched_trial(const Faults& faults, const FilterId& filter,
                                              const Part& part) {
  std::vector<FaultRecord> records;
  at::Tensor faulty;
  {
    const FaultGuard guard(fast, space, faults, ranges);
    records = guard.records();
    faulty = patcher->filter(filter);
  }
  return {on_host(patcher->logits(filter, faulty, part.first_block, part.last_block)),
          std::move(records)};
}

TrialOutput TrialEngine::State::fast_trial(const Faults& faults, const Part& part) {
  if (faults.empty()) return {part.of(fast_golden), {}};
  const FilterId filter = patcher ? patcher->filter_of(space, faults) : FilterId{};
  return filter.conv < 0 ? dense_trial(faults, part) : patched_trial(faults, filter, part);
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

std::vector<TrialOutcome> TrialEngine::run(const std::vector<TrialInput>& trials) {
  using Clock = std::chrono::steady_clock;
  std::vector<TrialOutcome> outcomes;
  for (const TrialInput& trial : trials) {
    const auto start = Clock::now();
    outcomes.push_back(run(trial.faults, trial.group));
    outcomes.back().seconds = std::chrono::duration<double>(Clock::now() - start).count();
  }
  return outcomes;
}

TrialOutcome TrialEngine::run(const Faults& faults, std::int32_t group) {
  State& s = *state_;
  if (!s.cache) return run_reference(faults, group);
  const at::NoGradGuard no_grad;
  const Part part = s.part(group);
  TrialOutput output = s.fast_trial(faults, part);
  return {s.result_of(output.logits, EnginePath::kFast, part, faults), std::move(output.faults), 0};
}

TrialOutcome TrialEngine::run_reference(const Faults& faults, std::int32_t group) {
  State& s = *state_;
  const at::NoGradGuard no_grad;
  const Part part = s.part(group);
  const FaultGuard guard(s.graph, s.space, faults);
  const at::Tensor logits = faults.empty() ? part.of(s.golden.logits) : s.reference_logits(part);
  return {s.result_of(logits, EnginePath::kReference, part, faults), guard.records(), 0};
}

TrialLogits TrialEngine::logits(const Faults& faults, std::int32_t group) {
  State& s = *state_;
  if (!s.cache) return logits_reference(faults, group);
  const at::NoGradGuard no_grad;
  const Part part = s.part(group);
  const at::Tensor logits = s.fast_trial(faults, part).logits.clone();
  return {logits, predictions_of(logits), s.result_of(logits, EnginePath::kFast, part, faults)};
}

TrialLogits TrialEngine::logits_reference(const Faults& faults, std::int32_t group) {
  State& s = *state_;
  const at::NoGradGuard no_grad;
  const Part part = s.part(group);
  const FaultGuard guard(s.graph, s.space, faults);
  const at::Tensor logits = s.reference_logits(part);
  return {logits, predictions_of(logits),
          s.result_of(logits, EnginePath::kReference, part, faults)};
}

}  // namespace sentinel
