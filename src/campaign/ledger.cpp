#include "campaign/ledger.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "campaign/chunk_result.hpp"
#include "campaign/result_info.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/core/stop.hpp"
#include "sentinel/networks/network.hpp"

namespace sentinel {
namespace {

constexpr std::size_t kShortfallsShown = 3;
constexpr std::size_t kMismatchesNamed = 5;

StoreOptions store_options(const Job& job, const TrialPlan& plan) {
  StoreOptions options;
  options.remedy = plan.remedy;
  options.fresh = job.fresh;
  options.publish = std::chrono::seconds(job.publish_seconds);
  return options;
}

std::vector<std::string> names_of(const std::vector<ModelInfo>& models) {
  std::vector<std::string> names;
  names.reserve(models.size());
  for (const ModelInfo& model : models) names.push_back(model.name);
  return names;
}

/// Of a trial of all models, by point.
std::vector<double> costs_of_points(const Job& job, const TrialPlan& plan) {
  std::vector<double> costs(plan.points.size(), job.engine == EnginePath::kFast ? 0 : 1);
  if (job.engine != EnginePath::kFast) return costs;
  for (const TrialCost& cost : trial_costs(plan.models, selection_of(job.faults)))
    for (std::size_t p = 0; p < costs.size(); ++p)
      costs[p] += std::max(1e-3, cost.expected(plan.points[p].sampler));
  return costs;
}

/// Trials of all models, in model order.
std::vector<std::vector<TrialRow>> by_trial(const std::vector<TrialRecord>& records,
                                            std::size_t models) {
  std::vector<std::vector<TrialRow>> trials;
  for (const TrialRecord& record : records) {
    if (trials.empty() || trials.back().size() == models) trials.emplace_back();
    trials.back().push_back(record.row);
  }
  return trials;
}

}  // namespace

Ledger::Ledger(const Job& job, const TrialPlan& plan, ResultInfo info, SessionInfo session,
               int workers, std::int64_t trials_at_once)
    : path_(job.output),
      models_(names_of(info.models)),
      points_([&] {
        std::vector<std::unique_ptr<PointProgress>> points;
        for (std::uint32_t p = 0; p < plan.points.size(); ++p)
          points.push_back(std::make_unique<PointProgress>(info, p, plan.points[p]));
        return points;
      }()),
      store_(job.output, std::move(info), std::move(session), store_options(job, plan)) {
  recall(job.output, plan.remedy);
  std::vector<TrialSource> sources;
  const std::vector<double> costs = costs_of_points(job, plan);
  for (std::size_t p = 0; p < points_.size(); ++p) {
    sources.push_back(points_[p]->source(workers));
    sources.back().cost = costs[p];
    // At least a batch of a GPU.
    sources.back().least = static_cast<std::uint64_t>(std::max<std::int64_t>(1, trials_at_once));
  }
  planner_.emplace(std::move(sources), wanted() - done(), workers,
                   [this](std::uint32_t point, std::uint64_t id) { return store_.has(point, id); });
  progress_.emplace(plan.what, "trials", wanted(), done());
  if (done() > 0)
    spdlog::info("{}: {} of {} trials are stored already", job.output, done(), wanted());
}

std::uint64_t Ledger::wanted() const {
  std::uint64_t sum = 0;
  for (const auto& point : points_) sum += point->wanted();
  return sum;
}

std::uint64_t Ledger::expected() const {
  std::uint64_t sum = 0;
  for (const auto& point : points_) sum += point->expected();
  return sum;
}

std::uint64_t Ledger::done() const {
  std::uint64_t sum = 0;
  for (const auto& point : points_) sum += point->done();
  return sum;
}

std::optional<Bytes> Ledger::next() {
  if (stop_signal() != 0) return std::nullopt;
  const auto chunk = planner_->next();
  return chunk ? std::optional(chunk->encode()) : std::nullopt;
}

void Ledger::sink(const Bytes& result) {
  const auto [records, audits, audit_seconds] = ChunkResult::decode(result);
  store_.append(records, audits);
  std::vector<std::vector<TrialRow>> trials = by_trial(records, models_.size());
  for (std::vector<TrialRow>& trial : trials) {
    double seconds = audit_seconds / static_cast<double>(trials.size());
    for (const TrialRow& row : trial) seconds += 1e-6 * row.wall_us;
    planner_->measured(trial.front().point, seconds);
    points_.at(trial.front().point)->add(std::move(trial));
  }
  using Clock = std::chrono::steady_clock;
  const auto now = Clock::now();
  if (now < refresh_) return;
  store_findings();
  // With many points or looks this takes long: at most a twentieth of the time.
  refresh_ = now + std::max<Clock::duration>(std::chrono::seconds(1), 20 * (Clock::now() - now));
  progress_->expect(expected());
  progress_->update(done(), points_.at(records.back().row.point)->headline());
}

ExitCode Ledger::finish() {
  progress_.reset();
  store_findings();
  const bool complete = done() == wanted();
  store_.finish(complete);
  warn_of_shortfalls();
  const bool agree = audits_agree();
  if (complete) return agree ? ExitCode::kDone : ExitCode::kMismatch;
  spdlog::warn(
      "stopped by signal {}: {} of {} trials are stored; run the same command again to go on",
      stop_signal(), done(), wanted());
  return stop_code();
}

void Ledger::warn_of_shortfalls() const {
  std::size_t count = 0;
  for (const auto& point : points_) {
    const std::string text = point->shortfall();
    if (!text.empty() && ++count <= kShortfallsShown) spdlog::warn(text);
  }
  if (count > kShortfallsShown) spdlog::warn("and {} more like these", count - kShortfallsShown);
}

/// Warns of mismatches in what is stored, of this incarnation or another.
bool Ledger::audits_agree() const {
  std::vector<AuditRow> found = store_.audits();
  found.erase(std::remove_if(found.begin(), found.end(),
                             [](const AuditRow& row) { return row.mismatches == 0; }),
              found.end());
  for (std::size_t i = 0; i < std::min(found.size(), kMismatchesNamed); ++i) {
    const AuditRow& row = found[i];
    spdlog::warn(
        "audit: the fast engine and the reference path disagree on {} of {} images in trial {} of "
        "point {}, model {}; see: {}",
        row.mismatches, row.images, row.id, row.point, models_.at(row.model),
        points_.at(row.point)->replay_command(path_, row.id));
  }
  if (found.size() > kMismatchesNamed)
    spdlog::warn("audit: {} more mismatches are in /audit of {}", found.size() - kMismatchesNamed,
                 path_);
  return found.empty();
}

/// Takes the rows of earlier incarnations into the estimates.
void Ledger::recall(const std::string& path, const std::string& remedy) {
  std::vector<TrialRow> trial;
  const auto incomplete = [&](const TrialRow& row) {
    throw DataError(
        path, fmt::format("trial {} of point {} has not one row of every model; the file or a "
                          "journal of it is damaged: {}",
                          row.id, row.point, remedy));
  };
  store_.for_each([&](const TrialRow& row) {
    if (row.model != trial.size() ||
        (!trial.empty() && (row.point != trial[0].point || row.id != trial[0].id)))
      incomplete(trial.empty() ? row : trial[0]);
    trial.push_back(row);
    if (trial.size() < models_.size()) return;
    try {
      points_.at(trial.front().point)->add(std::move(trial));
    } catch (const EnvironmentError& error) {
      throw EnvironmentError(path + ": " + error.what());
    }
    trial.clear();
  });
  if (!trial.empty()) incomplete(trial[0]);
}

void Ledger::store_findings() {
  Findings findings;
  for (const auto& point : points_) point->report(findings);
  store_.set_findings(std::move(findings));
}

}  // namespace sentinel
