#include "campaign/trial_runner.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "sentinel/core/error.hpp"
#include "sentinel/core/rng.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/fault/audit.hpp"
#include "sentinel/fault/fault_free.hpp"
#include "sentinel/fault/trial_cost.hpp"
#include "sentinel/networks/network.hpp"

namespace sentinel {
namespace {

constexpr double kFaultsAtOnce = 2e6;

std::string nothing_selected(const Selection& selection) {
  const std::string part = selection_name(selection);
  return spelled(Setting::kFaultTarget) + " " + target_name(selection) +
         (part.empty() ? "" : " with " + part) + ": the network has nothing of it that may fail";
}

FaultRow to_row(const FaultRecord& fault, const FaultTensor& tensor, const ImageBlocks& blocks) {
  FaultRow row;
  row.kind = static_cast<std::uint8_t>(tensor.kind);
  row.tensor = fault.site.tensor;
  row.element = fault.site.element;
  row.word_bits = static_cast<std::uint8_t>(tensor.word_bits);
  row.bit = fault.site.bit;
  row.effect = static_cast<std::uint8_t>(fault.site.effect);
  const bool word = fault.site.effect == Effect::kRandomWord || fault.site.effect == Effect::kValue;
  const int left = tensor.word_bits - fault.site.bit;  // a burst ends with its word
  row.length = static_cast<std::uint8_t>(word ? left : std::min<int>(fault.site.length, left));
  if (fault.site.image >= 0)
    row.image = static_cast<std::int32_t>(blocks.image_at(fault.site.image));
  if (fault.outcome) row.outcome = static_cast<std::uint8_t>(*fault.outcome);
  row.before = fault.before;
  row.after = fault.after;
  return row;
}

TrialRecord to_record(const TrialOutcome& outcome, const FaultSpace& space,
                      const ImageBlocks& blocks) {
  const TrialResult& result = outcome.result;
  TrialRecord record;
  TrialRow& row = record.row;
  row.n_faults = outcome.n_faults;
  row.first_node = result.first_node;
  static_cast<OutcomeCounts&>(row) = result;
  row.faults_masked = outcome.masked;
  row.words_wrong = outcome.words_wrong;
  row.words_flagged = outcome.words_flagged;
  row.faults_stored = outcome.faults.size() == outcome.n_faults ? 1 : 0;
  row.path = static_cast<std::uint8_t>(result.path);
  for (const FaultRecord& fault : outcome.faults)
    record.faults.push_back(to_row(fault, space.tensors().at(fault.site.tensor), blocks));
  return record;
}

/// `logits` in the order of the images.
void check_golden(const NamedModel& model, const at::Tensor& logits, const Dataset& images) {
  FaultFreeLogits found;
  found.add(logits);
  const ImageOf image = [&](std::int64_t number) {
    return images.batch(number, number + 1, model.graph.normalisation).images;
  };
  require_finite_logits(source_of(model), model.graph, found, image, "images");
}

}  // namespace

std::size_t trials_together(double faults) {
  return static_cast<std::size_t>(std::max(1.0, kFaultsAtOnce / (1 + faults)));
}

TrialRunner::TrialRunner(const std::vector<NamedModel>& models, const Dataset& images,
                         std::int64_t images_per_trial, const std::vector<CampaignPoint>& points,
                         std::uint64_t seed, const EngineOptions& options)
    : points_(points),
      audit_rates_(points.size(), 0.0),
      blocks_(images.size(), images_per_trial, seed),
      seed_(seed) {
  if (models.size() > kMostNetworks)
    throw UserError(fmt::format("{} networks are more than {}; give fewer to {}", models.size(),
                                kMostNetworks, spelled(Setting::kAlso)));
  EngineOptions own = options;
  own.cache_budget = options.cache_budget / std::max<std::size_t>(models.size(), 1);
  if (blocks_.divides()) own.group = blocks_.size();
  const NamedModel* before = nullptr;
  Batch in_blocks;  // shared by models in a row that want the same
  for (const NamedModel& model : models) {
    if (before == nullptr || before->graph.normalisation != model.graph.normalisation)
      in_blocks = blocks_.in_blocks(images.batch(0, images.size(), model.graph.normalisation));
    before = &model;
    require_sound_tensors(source_of(model), model.graph);
    maps_.emplace_back(models.front().graph, model.graph, own.selection);
    engines_.emplace_back(model.graph.clone(), in_blocks, own);
    check_golden(model, blocks_.in_order(engines_.back().golden().logits), images);
  }
  if (std::all_of(engines_.begin(), engines_.end(),
                  [](const TrialEngine& engine) { return engine.space().sites() == 0; }))
    throw UserError(nothing_selected(own.selection));
  std::vector<SpaceOfNetwork> networks;
  for (const TrialEngine& engine : engines_) networks.push_back({engine.graph(), engine.space()});
  const bool own_faults = std::any_of(points.begin(), points.end(), [](const CampaignPoint& point) {
    return point.faults.lifetime == Lifetime::kImage;
  });
  for (std::int64_t image = 0; own_faults && image < images.size(); ++image)
    image_seeds_.push_back(seed_of("image " + std::to_string(image)));
  for (const CampaignPoint& point : points) {
    auto& strata = strata_.emplace_back();
    if (point.division)
      strata = std::make_unique<StratifiedSampler>(*point.division, networks);
    else if (point.sampling != Sampling::kSimple)
      strata = std::make_unique<StratifiedSampler>(point.sampler, networks, point.faults);
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
  const Sampler& sampler = points_.at(point).sampler;
  if (const auto* listed = std::get_if<ListedFaults>(&sampler)) {
    const Faults original = this->listed(*listed->list, point, id);
    return model == 0 ? original : maps_.at(model).translate(original);
  }
  if (points_[point].faults.lifetime == Lifetime::kPermanent)
    return drawn(point, id, model, stratum, seed_);
  // The streams are of the image in the data set, wherever its place is.
  Faults all;
  const auto [first, last] = blocks_.places(blocks_.block_of_trial(seed_, point, id));
  for (std::int64_t place = first; place < last; ++place) {
    const auto image = static_cast<std::size_t>(blocks_.image_at(place));
    for (FaultSite& site : drawn(point, id, model, stratum, seed_ ^ image_seeds_[image])) {
      site.image = static_cast<std::int32_t>(place);
      all.push_back(site);
    }
  }
  return all;
}

/// Images that the trial does not look at take their faults with them.
Faults TrialRunner::listed(const FaultList& list, std::uint32_t point, std::uint64_t id) const {
  Faults faults = list.of_trial(id, seed_);
  if (!blocks_.divides()) return faults;
  const auto [first, last] = blocks_.places(blocks_.block_of_trial(seed_, point, id));
  Faults seen;
  for (FaultSite& site : faults) {
    if (site.image != kAllImages)
      site.image = static_cast<std::int32_t>(blocks_.place_of(site.image));
    if (site.image == kAllImages || (first <= site.image && site.image < last))
      seen.push_back(site);
  }
  std::sort(seen.begin(), seen.end());
  return seen;
}

Faults TrialRunner::drawn(std::uint32_t point, std::uint64_t id, std::size_t model,
                          std::int32_t stratum, std::uint64_t seed) {
  const Sampler& sampler = points_.at(point).sampler;
  const auto sites_of = [&](std::size_t of, const RngKey& key) {
    const FaultSpace& space = engines_.at(of).space();
    const auto* channel = std::get_if<ChannelFaults>(&sampler);
    Faults sites;
    if (channel && stratum < 0)
      sites = {channel_site(*channel, space, key)};
    else
      sites = strata_[point] ? strata_[point]->draw(space, stratum, key, of)
                             : draw(sampler, space, key);
    give_effects(points_[point].faults, sites, key);
    return sites;
  };
  if (const auto* binomial = std::get_if<BinomialFaults>(&sampler)) {
    const RngKey key{seed, point, id, Purpose::kFaults};
    Faults original = sites_of(0, key);
    if (model == 0) return original;
    return draw_paired(*binomial, points_[point].faults, original, maps_.at(model),
                       engines_.at(model).space(), key);
  }
  // Without pairing every model draws from a stream of its own.
  return sites_of(model, {seed, point_of_network(point, model), id, Purpose::kFaults});
}

std::optional<double> TrialRunner::shared(std::uint32_t point, std::size_t model) const {
  const Sampler& sampler = points_.at(point).sampler;
  const SiteMap& map = maps_.at(model);
  std::uint64_t all = 0, found = 0;
  if (const auto* listed = std::get_if<ListedFaults>(&sampler)) {
    for (const std::uint64_t trial : listed->list->trials_with_faults()) {
      const Faults faults = listed->list->of_trial(trial, seed_);
      all += faults.size();
      found += map.translate(faults).size();
    }
  } else if (std::holds_alternative<BinomialFaults>(sampler)) {
    const FaultSpace& space = engines_.front().space();
    all = space.sites();
    found = map.shared_sites(space);
  }
  if (all == 0) return std::nullopt;
  return static_cast<double>(found) / static_cast<double>(all);
}

/// No model's audits cost more than they may: the rate is that of the cheapest to run.
void TrialRunner::set_audit_rates(std::optional<double> rate) {
  std::vector<TrialCost> costs;
  for (const TrialEngine& engine : engines_) costs.emplace_back(engine.graph(), engine.space());
  const auto at_once = std::max<std::int64_t>(1, engines_.front().trials_at_once());
  for (std::size_t p = 0; p < points_.size(); ++p) {
    double least = 1;
    for (const TrialCost& cost : costs) least = std::min(least, cost.expected(points_[p].sampler));
    audit_rates_[p] = rate.value_or(default_audit_rate(least, at_once));
  }
}

std::vector<TrialInput> TrialRunner::inputs(std::uint32_t point,
                                            const std::vector<TrialTask>& tasks,
                                            std::size_t model) {
  std::vector<TrialInput> trials;
  for (const TrialTask& task : tasks)
    trials.push_back({faults(point, task.id, model, task.draw.stratum),
                      blocks_.block_of_trial(seed_, point, task.id)});
  return trials;
}

std::vector<TrialOutcome> TrialRunner::outcomes(std::uint32_t point,
                                                const std::vector<TrialTask>& tasks,
                                                std::size_t model) {
  const double faults = faults_of_trial(points_[point], engines_[model].space(), blocks_.size());
  const std::size_t slice = trials_together(faults);
  std::vector<TrialOutcome> all;
  for (std::size_t begin = 0; begin < tasks.size(); begin += slice) {
    const auto first = tasks.begin() + static_cast<std::ptrdiff_t>(begin);
    const auto last =
        tasks.begin() + static_cast<std::ptrdiff_t>(std::min(tasks.size(), begin + slice));
    for (TrialOutcome& outcome : engines_[model].run_batch(inputs(point, {first, last}, model)))
      all.push_back(std::move(outcome));
  }
  return all;
}

ChunkResult TrialRunner::run(std::uint32_t point, const std::vector<TrialTask>& tasks) {
  std::vector<std::vector<TrialOutcome>> outcomes;  // by model
  for (std::size_t m = 0; m < engines_.size(); ++m)
    outcomes.push_back(this->outcomes(point, tasks, m));
  ChunkResult result;
  for (std::size_t t = 0; t < tasks.size(); ++t)
    for (std::size_t m = 0; m < engines_.size(); ++m) {
      TrialRecord record = to_record(outcomes[m][t], engines_[m].space(), blocks_);
      TrialRow& row = record.row;
      row.point = point;
      row.id = tasks[t].id;
      row.model = static_cast<std::uint32_t>(m);
      row.stage = tasks[t].draw.stage;
      row.stratum = tasks[t].draw.stratum;
      row.probability = tasks[t].draw.probability;
      row.block = blocks_.block_of_trial(seed_, point, row.id);
      row.wall_us = static_cast<std::uint32_t>(1e6 * outcomes[m][t].seconds);
      result.records.push_back(std::move(record));
    }
  add_audits(result);
  return result;
}

void TrialRunner::add_audits(ChunkResult& result) {
  const auto start = std::chrono::steady_clock::now();
  for (TrialRecord& record : result.records) {
    TrialRow& row = record.row;
    if (!is_audited(audit_rates_[row.point], seed_, row.point, row.id)) continue;
    row.audited = 1;
    result.audits.push_back(audit_of(row));
  }
  result.audit_seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

AuditRow TrialRunner::audit_of(const TrialRow& row) {
  const Faults own = faults(row.point, row.id, row.model, row.stratum);
  TrialEngine& engine = engines_.at(row.model);
  const auto [fast, reference, agreement] = sentinel::audit(engine, own, row.block);
  AuditRow audit;
  audit.point = row.point;
  audit.id = row.id;
  audit.model = row.model;
  static_cast<OutcomeCounts&>(audit) = reference.result;
  // The trial ran together with others; alone it must have the same outcome bit for bit.
  audit.mismatches = std::max(agreement.mismatches, largest_difference(row, fast.result));
  audit.near_ties = agreement.near_ties;
  audit.deviation = agreement.deviation;
  return audit;
}

}  // namespace sentinel
