#include "campaign/ledger.hpp"

#include <spdlog/spdlog.h>

#include "campaign/records.hpp"
#include "sentinel/core/stop.hpp"

namespace sentinel {
namespace {

StoreOptions store_options(const Job& job, const TrialPlan& plan) {
  StoreOptions options;
  options.remedy = plan.remedy;
  options.fresh = job.fresh;
  options.publish = std::chrono::seconds(job.publish_seconds);
  return options;
}

std::vector<std::uint64_t> trials_of(const std::vector<CampaignPoint>& points) {
  std::vector<std::uint64_t> trials;
  for (const CampaignPoint& point : points) trials.push_back(point.trials);
  return trials;
}

/// Binomial faults are shared between the models of a campaign, others are not.
std::vector<bool> paired(const std::vector<CampaignPoint>& points) {
  std::vector<bool> shared;
  for (const CampaignPoint& point : points)
    shared.push_back(std::holds_alternative<BinomialFaults>(point.sampler));
  return shared;
}

}  // namespace

Ledger::Ledger(const Job& job, const TrialPlan& plan, ResultInfo info, SessionInfo session,
               int workers)
    : trials_(trials_of(plan.points)),
      models_(info.models.size()),
      estimates_(paired(plan.points), models_, job.confidence),
      store_(job.output, std::move(info), std::move(session), store_options(job, plan)) {
  for (const std::uint64_t trials : trials_) planned_ += trials;
  recall();
  planner_.emplace(trials_, planned_ - done_, workers,
                   [this](std::uint32_t point, std::uint64_t id) { return store_.has(point, id); });
  progress_.emplace(plan.what, "trials", planned_, done_);
  if (done_ > 0)
    spdlog::info("{}: {} of {} trials are stored already", job.output, done_, planned_);
}

std::optional<Bytes> Ledger::next() {
  if (stop_signal() != 0) return std::nullopt;
  const auto chunk = planner_->next();
  return chunk ? std::optional(chunk->encode()) : std::nullopt;
}

void Ledger::sink(const Bytes& result) {
  std::vector<TrialRecord> records = decode_records(result);
  for (TrialRecord& record : records) record.row.session = store_.session();
  store_.append(records);
  for (std::size_t first = 0; first < records.size(); first += models_) add(records, first);
  refresh_estimates();
  progress_->update(done_, estimates_.headline(records.back().row.point));
}

ExitCode Ledger::finish() {
  progress_.reset();
  store_.set_estimates(estimates_.estimates());
  store_.finish(done_ == planned_);
  if (done_ == planned_) return ExitCode::kDone;
  spdlog::warn(
      "stopped by signal {}: {} of {} trials are stored; run the same command again to go on",
      stop_signal(), done_, planned_);
  return stop_code();
}

/// Takes the rows of earlier incarnations into the estimates.
void Ledger::recall() {
  std::vector<TrialRow> trial;
  store_.for_each([&](const TrialRow& row) {
    trial.push_back(row);
    if (trial.size() < models_) return;
    // A finished campaign with more trials may be shortened: rows beyond are kept and not used.
    if (row.id < trials_.at(row.point)) {
      estimates_.add(trial);
      ++done_;
    }
    trial.clear();
  });
}

void Ledger::add(const std::vector<TrialRecord>& records, std::size_t first) {
  std::vector<TrialRow> trial;
  double seconds = 0;
  for (std::size_t m = 0; m < models_; ++m) {
    trial.push_back(records.at(first + m).row);
    seconds += 1e-6 * trial.back().wall_us;
  }
  planner_->measured(seconds);
  estimates_.add(trial);
  ++done_;
}

void Ledger::refresh_estimates() {
  const auto now = std::chrono::steady_clock::now();
  if (now - refreshed_ < std::chrono::seconds(1)) return;
  refreshed_ = now;
  store_.set_estimates(estimates_.estimates());
}

}  // namespace sentinel
