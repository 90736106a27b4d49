#include "campaign/trial_runner.hpp"

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
                         std::int64_t images_per_trial, const std::vector<CampaignPoint>& points,
                         std::uint64_t seed, const EngineOptions& options)
    : blocks_(images.images.size(0), images_per_trial, seed), seed_(seed) {
  EngineOptions own = options;
  own.cache_budget = options.cache_budget / std::max<std::size_t>(models.size(), 1);
  if (blocks_.divides()) own.group = blocks_.size();
  const Batch in_blocks = blocks_.in_blocks(images);
  for (const NamedModel& model : models) {
    maps_.emplace_back(models.front().graph, model.graph);
    engines_.emplace_back(model.graph.clone(), in_blocks, own);
  }
  for (const CampaignPoint& point : points) {
    points_.push_back(point.sampler);
    strata_.push_back(point.sampling == Sampling::kSimple
                          ? nullptr
                          : std::make_unique<StratifiedSampler>(point.sampler, models.front().graph,
                                                                engines_.front().space()));
  }
}

FaultSite TrialRunner::channel_site(const ChannelFaults& sampler, const FaultSpace& space,
                                    const RngKey& key) {
  if (!order_ || order_of_ != key.point) order_.emplace(sampler, space, key);
  order_of_ = key.point;
  return space.at(order_->at(key.trial));
}

Faults TrialRunner::faults(std::uint32_t point, std::uint64_t id, std::size_t model,
                           std::int32_t stratum) {
  const Sampler& sampler = points_.at(point);
  const auto drawn = [&](std::size_t of, const RngKey& key) {
    const FaultSpace& space = engines_.at(of).space();
    return strata_[point] ? strata_[point]->draw(space, stratum, key) : draw(sampler, space, key);
  };
  if (const auto* binomial = std::get_if<BinomialFaults>(&sampler)) {
    const RngKey key{seed_, point, id, Purpose::kFaults};
    const Faults original = drawn(0, key);
    if (model == 0) return original;
    return draw_paired(*binomial, original, maps_.at(model), engines_.at(model).space(), key);
  }
  // Without pairing every model draws from a stream of its own.
  const auto stream = static_cast<std::uint32_t>(point | model << 24);
  const RngKey key{seed_, stream, id, Purpose::kFaults};
  if (const auto* channel = std::get_if<ChannelFaults>(&sampler); channel && stratum < 0)
    return {channel_site(*channel, engines_.at(model).space(), key)};
  return drawn(model, key);
}

std::vector<TrialRecord> TrialRunner::run(std::uint32_t point,
                                          const std::vector<TrialTask>& tasks) {
  std::vector<std::vector<TrialOutcome>> outcomes;  // by model
  for (std::size_t m = 0; m < engines_.size(); ++m) {
    std::vector<TrialInput> trials;
    for (const TrialTask& task : tasks)
      trials.push_back({faults(point, task.id, m, task.draw.stratum),
                        blocks_.block_of_trial(seed_, point, task.id)});
    outcomes.push_back(engines_[m].run_batch(trials));
  }
  std::vector<TrialRecord> records;
  for (std::size_t t = 0; t < tasks.size(); ++t)
    for (std::size_t m = 0; m < engines_.size(); ++m) {
      TrialRecord record = to_record(outcomes[m][t], engines_[m].space());
      TrialRow& row = record.row;
      row.point = point;
      row.id = tasks[t].id;
      row.model = static_cast<std::uint32_t>(m);
      row.stage = tasks[t].draw.stage;
      row.stratum = tasks[t].draw.stratum;
      row.probability = tasks[t].draw.probability;
      row.block = blocks_.block_of_trial(seed_, point, row.id);
      row.wall_us = static_cast<std::uint32_t>(1e6 * outcomes[m][t].seconds);
      records.push_back(std::move(record));
    }
  return records;
}

}  // namespace sentinel
