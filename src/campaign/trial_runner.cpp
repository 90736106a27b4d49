#include "sentinel/campaign/trial_runner.hpp"

#include <chrono>

namespace sentinel {
namespace {

FaultRow to_row(const FaultRecord& fault, const FaultTensor& tensor) {
  FaultRow row;
  row.kind = static_cast<std::uint8_t>(tensor.kind);
  row.tensor = fault.site.tensor;
  row.element = fault.site.element;
  row.word_bits = static_cast<std::uint8_t>(word_bits(tensor.codec));
  row.bit = fault.site.bit;
  row.before = fault.before;
  row.after = fault.after;
  return row;
}

TrialRecord to_record(const TrialOutcome& outcome, const FaultSpace& space) {
  const TrialResult& result = outcome.result;
  TrialRecord record;
  TrialRow& row = record.row;
  row.n_faults = static_cast<std::uint32_t>(outcome.faults.size());
  row.first_node = result.first_node;
  row.images = result.images;
  row.correct = result.correct;
  row.top5 = result.top5;
  row.masked = result.masked;
  row.sdc_noncritical = result.sdc_noncritical;
  row.sdc_critical = result.sdc_critical;
  row.due = result.due;
  row.correct_argmax = result.correct_argmax;
  row.path = static_cast<std::uint8_t>(result.path);
  for (const FaultRecord& fault : outcome.faults)
    record.faults.push_back(to_row(fault, space.tensors().at(fault.site.tensor)));
  return record;
}

}  // namespace

TrialRunner::TrialRunner(const std::vector<NamedModel>& models, const Batch& images,
                         std::vector<Sampler> points, std::uint64_t seed,
                         const EngineOptions& options)
    : points_(std::move(points)), seed_(seed) {
  EngineOptions own = options;
  own.cache_budget = options.cache_budget / std::max<std::size_t>(models.size(), 1);
  for (const NamedModel& model : models) {
    maps_.emplace_back(models.front().graph, model.graph);
    engines_.emplace_back(model.graph.clone(), images, own);
  }
}

FaultSite TrialRunner::channel_site(const ChannelFaults& sampler, const FaultSpace& space,
                                    const RngKey& key) {
  if (!order_ || order_of_ != key.point) order_.emplace(sampler, space, key);
  order_of_ = key.point;
  return space.at(order_->at(key.trial));
}

Faults TrialRunner::faults(std::uint32_t point, std::uint64_t id, std::size_t model) {
  const Sampler& sampler = points_.at(point);
  const FaultSpace& space = engines_.at(model).space();
  const auto* binomial = std::get_if<BinomialFaults>(&sampler);
  if (model > 0 && binomial)
    return draw_paired(*binomial, engines_.front().space(), maps_.at(model), space,
                       {seed_, point, id, Purpose::kFaults});
  // Without pairing every model draws from a stream of its own.
  const auto stream = static_cast<std::uint32_t>(point | model << 24);
  const RngKey key{seed_, stream, id, Purpose::kFaults};
  if (const auto* channel = std::get_if<ChannelFaults>(&sampler))
    return {channel_site(*channel, space, key)};
  return draw(sampler, space, key);
}

std::vector<TrialRecord> TrialRunner::run(std::uint32_t point, std::uint64_t id) {
  using Clock = std::chrono::steady_clock;
  std::vector<TrialRecord> records;
  for (std::size_t m = 0; m < engines_.size(); ++m) {
    const auto start = Clock::now();
    const TrialOutcome outcome = engines_[m].run(faults(point, id, m));
    TrialRecord record = to_record(outcome, engines_[m].space());
    record.row.point = point;
    record.row.id = id;
    record.row.model = static_cast<std::uint32_t>(m);
    record.row.wall_us = static_cast<std::uint32_t>(
        std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - start).count());
    records.push_back(std::move(record));
  }
  return records;
}

}  // namespace sentinel
