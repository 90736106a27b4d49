#include "sentinel/fault/trial_engine.hpp"

#include "fault/channel_patch.hpp"
#include "sentinel/core/error.hpp"

namespace sentinel {
namespace {

std::vector<at::Tensor> split_blocks(const at::Tensor& images, std::int64_t block) {
  std::vector<at::Tensor> blocks;
  for (const at::Tensor& part : images.split(block, 0)) blocks.push_back(part);
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
  at::Tensor labels;
  Golden golden;
  TrialResult fault_free[2];                // by path: a trial without faults
  std::unique_ptr<PrefixCache> cache;       // null for reference_only
  at::Tensor fast_golden;                   // [N, classes], CPU
  std::unique_ptr<ChannelPatcher> patcher;  // null for reference_only and on GPUs

  State(Graph g, Batch images, const EngineOptions& options);
  void prepare_fast(const at::Tensor& images, const EngineOptions& options);
  at::Tensor reference_logits() const;
  at::Tensor fast_logits(NodeId first_node) const;
  TrialOutput dense_trial(const Faults& faults);
  TrialOutput patched_trial(const Faults& faults, const FilterId& filter);
  TrialOutput fast_trial(const Faults& faults);
  NodeId first_node(const Faults& faults) const { return space.tensors()[faults[0].tensor].node; }
};

TrialEngine::State::State(Graph g, Batch images, const EngineOptions& options)
    : graph(std::move(g)), space(graph), labels(images.labels.to(at::kCPU)) {
  if (images.images.size(0) == 0) throw UserError("fault injection needs at least one image");
  if (options.block < 1) throw UserError("the block size must be at least 1");
  const at::NoGradGuard no_grad;
  graph.to(options.device);
  const at::Tensor pixels = images.images.to(options.device).contiguous();
  blocks = split_blocks(pixels, options.block);
  golden.logits = reference_logits();
  golden.predictions = predictions_of(golden.logits);
  TrialResult& result = fault_free[static_cast<int>(EnginePath::kReference)];
  result = classify(golden.logits, golden.logits, labels);
  result.path = EnginePath::kReference;
  golden.correct = result.correct;
  golden.top5 = result.top5;
  if (!options.reference_only) prepare_fast(pixels, options);
}

void TrialEngine::State::prepare_fast(const at::Tensor& images, const EngineOptions& options) {
  fast = graph.clone();
  ranges = take_weight_bounds(fast, space);
  fast.to(options.device, at::MemoryFormat::ChannelsLast);
  std::vector<at::Tensor> parts;
  for (const at::Tensor& part : images.split(options.block, 0))
    parts.push_back(part.contiguous(at::MemoryFormat::ChannelsLast));
  cache = std::make_unique<PrefixCache>(fast, std::move(parts), options.cache_budget);
  fast_golden = on_host(cache->logits());
  // On a GPU asking which images changed would stall its queue in every block.
  if (options.device.is_cpu()) patcher = std::make_unique<ChannelPatcher>(fast, *cache);
  fault_free[static_cast<int>(EnginePath::kFast)] = classify(fast_golden, fast_golden, labels);
}

at::Tensor TrialEngine::State::reference_logits() const {
  std::vector<at::Tensor> parts;
  for (const at::Tensor& block : blocks) parts.push_back(sentinel::logits(graph, block));
  return on_host(parts);
}

at::Tensor TrialEngine::State::fast_logits(NodeId first_node) const {
  const NodeId cut = cache->cut_before(first_node);
  std::vector<at::Tensor> parts;
  for (std::size_t block = 0; block < cache->blocks(); ++block)
    parts.push_back(run_lean(fast, cache->start(block, cut), cut, Copies::kDiffering));
  return on_host(parts);
}

TrialOutput TrialEngine::State::dense_trial(const Faults& faults) {
  const FaultGuard guard(fast, space, faults, ranges);
  return {fast_logits(first_node(faults)), guard.records()};
}

TrialOutput TrialEngine::State::patched_trial(const Faults& faults, const FilterId& filter) {
  std::vector<FaultRecord> records;
  at::Tensor faulty;
  {
    const FaultGuard guard(fast, space, faults, ranges);
    records = guard.records();
    faulty = patcher->filter(filter);
  }
  return {on_host(patcher->logits(filter, faulty)), std::move(records)};
}

TrialOutput TrialEngine::State::fast_trial(const Faults& faults) {
  const FilterId filter = patcher ? patcher->filter_of(space, faults) : FilterId{};
  return filter.conv < 0 ? dense_trial(faults) : patched_trial(faults, filter);
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

TrialOutcome TrialEngine::run(const Faults& faults) {
  State& s = *state_;
  if (!s.cache) return run_reference(faults);
  if (faults.empty()) return {s.fault_free[static_cast<int>(EnginePath::kFast)], {}};
  const at::NoGradGuard no_grad;
  TrialOutput output = s.fast_trial(faults);
  TrialOutcome outcome{classify(output.logits, s.fast_golden, s.labels), std::move(output.faults)};
  outcome.result.first_node = static_cast<std::int32_t>(s.first_node(faults));
  outcome.result.path = EnginePath::kFast;
  return outcome;
}

TrialOutcome TrialEngine::run_reference(const Faults& faults) {
  State& s = *state_;
  if (faults.empty()) return {s.fault_free[static_cast<int>(EnginePath::kReference)], {}};
  const at::NoGradGuard no_grad;
  const FaultGuard guard(s.graph, s.space, faults);
  TrialOutcome outcome{classify(s.reference_logits(), s.golden.logits, s.labels), guard.records()};
  outcome.result.first_node = static_cast<std::int32_t>(s.first_node(faults));
  outcome.result.path = EnginePath::kReference;
  return outcome;
}

TrialLogits TrialEngine::logits(const Faults& faults) {
  State& s = *state_;
  if (!s.cache) return logits_reference(faults);
  if (faults.empty()) return {s.fast_golden.clone(), predictions_of(s.fast_golden)};
  const at::NoGradGuard no_grad;
  const at::Tensor logits = s.fast_trial(faults).logits;
  return {logits, predictions_of(logits)};
}

TrialLogits TrialEngine::logits_reference(const Faults& faults) {
  State& s = *state_;
  const at::NoGradGuard no_grad;
  const FaultGuard guard(s.graph, s.space, faults);
  const at::Tensor logits = s.reference_logits();
  return {logits, predictions_of(logits)};
}

}  // namespace sentinel
