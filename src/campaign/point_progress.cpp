#include "campaign/point_progress.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "campaign/sampling.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/store/result_store.hpp"

namespace sentinel {
namespace {

Design design_of(const ResultInfo& info, std::uint32_t number, const CampaignPoint& point) {
  SampledStrata strata = sampled_strata(info, number);
  if (point.division) strata.weights = mean_weights(info, number);
  DesignOptions options = design_options(point, number, info.seed, std::move(strata.weights),
                                         std::move(strata.costs), !info.image_blocks.empty());
  options.precision.half_width /= 1 - strata.known;
  return Design(std::move(options));
}

}  // namespace

PointProgress::PointProgress(const ResultInfo& info, std::uint32_t number,
                             const CampaignPoint& point)
    : number_(number),
      point_(point),
      plan_(info.plans.at(number)),
      design_(design_of(info, number, point)),
      estimates_(info, number),
      next_(point.first) {}

TrialSource PointProgress::source(int workers) const {
  TrialSource source;
  source.first = point_.first;
  source.ready = [this] { return decided_ ? next_ : design_.ready(); };
  source.ended = [this] { return decided_ || design_.ready() >= point_.trials; };
  source.draw = [this](std::uint64_t id) { return design_.draw(id); };
  if (point_.sampling == Sampling::kSequential)
    source.most = std::max<std::uint64_t>(
        1, Design::kRoundTrials / (2 * static_cast<std::uint64_t>(workers)));
  return source;
}

void PointProgress::add(std::vector<TrialRow> trial) {
  const std::uint64_t id = trial.at(0).id;
  // A result may hold trials that this run does not want: they are kept and not used.
  if (id < point_.first || id >= last()) return;
  ++done_;
  waiting_.emplace(id, std::move(trial));
  while (!decided_ && !waiting_.empty() && waiting_.begin()->first == next_) {
    take(waiting_.begin()->second);
    waiting_.erase(waiting_.begin());
  }
  if (!decided_) return;
  done_ = next_ - point_.first;
  waiting_.clear();
}

void PointProgress::take(const std::vector<TrialRow>& trial) {
  check_draw(trial.front());
  estimates_.add(trial);
  ++next_;
  if (!is_adaptive(point_.sampling)) return;
  design_.observe(estimates_.observed(trial));
  if (!may_stop(point_.sampling) || !design_.at_round_end()) return;
  if (point_.sampling == Sampling::kSequential)
    for (EstimateRow& row : estimates_.look()) looks_.push_back(std::move(row));
  decided_ = estimates_.reached();
}

/// A stored trial must come from the stratum that the plan draws it from.
void PointProgress::check_draw(const TrialRow& row) const {
  if (point_.sampling == Sampling::kSimple) return;
  const TrialDraw draw = design_.draw(row.id);
  if (draw.stratum == row.stratum && draw.stage == row.stage && draw.probability == row.probability)
    return;
  const bool channel = std::holds_alternative<ChannelFaults>(point_.sampler);
  throw EnvironmentError(
      "trial " + std::to_string(row.id) + " of point " + std::to_string(number_) +
      " was stored for another plan than its predecessors give; another version of sentinelnn or "
      "another processor computed them: " +
      (channel ? restart_advice(Setting::kChannelFresh, Setting::kChannelTrials)
               : restart_advice()));
}

std::uint64_t PointProgress::expected() const {
  if (point_.sampling == Sampling::kAllocated) return std::min(design_.ready(), wanted());
  if (looks_.empty() || decided_) return wanted();
  const double width = estimates_.width();
  const double trials = static_cast<double>(next_) * width * width;
  return std::clamp(static_cast<std::uint64_t>(std::min(trials, 1e18)), done_, wanted());
}

std::string PointProgress::shortfall() const {
  const bool wanted = may_stop(point_.sampling) && point_.trials > 0;
  if (!wanted || decided_ || next_ < point_.trials) return "";
  const auto* channel = std::get_if<ChannelFaults>(&point_.sampler);
  return fmt::format(
      "{}{} trials were not enough for a half-width of {:g} ({}); give a larger {} to go on",
      channel ? fmt::format("{} channel {}: ", channel->layer, channel->channel) : "",
      point_.trials, point_.precision.half_width, headline(),
      spelled(channel ? Setting::kChannelCap : Setting::kRepeat));
}

std::string PointProgress::replay_command(const std::string& result, std::uint64_t id) const {
  // Trials of channel-FI are not replayed.
  if (std::holds_alternative<ChannelFaults>(point_.sampler))
    return "sentinelnn rank " + spelled(Setting::kImportance) + " channel-FI " +
           spelled(Setting::kChannelEngine) + " reference";
  return fmt::format("sentinelnn replay {} {} {} {} {} {} reference", result,
                     spelled(Setting::kPoint), number_, spelled(Setting::kTrials), id,
                     spelled(Setting::kEngine));
}

void PointProgress::report(Findings& findings) const {
  PlanInfo plan = plan_;
  // What the estimates count: those of a sequential plan are of its last look.
  plan.used = point_.sampling != Sampling::kSequential ? estimates_.used()
              : looks_.empty()                         ? 0
                                                       : looks_.back().trials;
  plan.reached = decided_ || (plan.half_width == 0 && next_ == point_.trials) ? 1 : 0;
  findings.plans.push_back(plan);
  findings.trials.push_back(last());
  const std::vector<EstimateRow> now =
      point_.sampling == Sampling::kSequential ? looks_ : estimates_.look();
  findings.estimates.insert(findings.estimates.end(), now.begin(), now.end());
  const std::vector<CentreInfo>& centres = estimates_.centres();
  findings.centres.insert(findings.centres.end(), centres.begin(), centres.end());
  std::uint32_t number = 0;
  for (const Design::Round& round : design_.rounds()) {
    for (std::size_t h = 0; h < round.probabilities.size(); ++h)
      findings.rounds.push_back({number_, number, round.stage, round.first, round.trials,
                                 static_cast<std::int32_t>(h), round.probabilities[h],
                                 round.allocated.empty() ? 0 : round.allocated[h]});
    ++number;
  }
}

}  // namespace sentinel
