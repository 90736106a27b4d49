#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "campaign/chunk_result.hpp"
#include "campaign/chunks.hpp"
#include "campaign/image_blocks.hpp"
#include "campaign/trial_plan.hpp"
#include "sentinel/fault/sampler.hpp"
#include "sentinel/fault/strata.hpp"
#include "sentinel/fault/trial_engine.hpp"
#include "sentinel/networks/network.hpp"
#include "sentinel/stats/design.hpp"
#include "sentinel/store/schema.hpp"

namespace sentinel {

/// So many trials are drawn and run together where each has this many faults: two million faults,
/// or one trial.
std::size_t trials_together(double faults);

/// Runs trials of a campaign on one rank: for every model an engine and the way faults of the first
/// (original) model carry over. The records of (point, id) are a pure function of the campaign and
/// the trial's draw, whatever was run before.
class TrialRunner {
 public:
  /// `models[0]` is the original; `points` by number; `images` are those evaluated, normalised for
  /// each model as it wants them, and `images_per_trial` how many of them in one trial (-1: all).
  TrialRunner(const std::vector<NamedModel>& models, const Dataset& images,
              std::int64_t images_per_trial, const std::vector<CampaignPoint>& points,
              std::uint64_t seed, const EngineOptions& options);

  /// From now on a share `rate` of the trials are run again by the reference path after those they
  /// came with; empty: as many as cost 2 % of the time by MACs. Before this none are.
  void set_audit_rates(std::optional<double> rate);
  /// By point.
  const std::vector<double>& audit_rates() const { return audit_rates_; }

  /// Trials of a point together; wall_us filled in, session and rank are the caller's.
  ChunkResult run(std::uint32_t point, const std::vector<TrialTask>& tasks);
  /// The faults of a trial on one model.
  Faults faults(std::uint32_t point, std::uint64_t id, std::size_t model,
                std::int32_t stratum = -1);

  /// Share of the first model's selected sites whose faults a model shares; of a list, share of its
  /// faults. Nothing where each model has faults of its own.
  std::optional<double> shared(std::uint32_t point, std::size_t model) const;

  const TrialEngine& engine(std::size_t model) const { return engines_.at(model); }
  std::size_t models() const { return engines_.size(); }
  const ImageBlocks& blocks() const { return blocks_; }
  /// Strata of a point; only where its trials are not chosen simply.
  const Strata& strata(std::uint32_t point) const { return strata_.at(point)->strata(); }
  /// The strata's shares of a model's sites, where the point is divided.
  std::vector<double> weights(std::uint32_t point, std::size_t model) const {
    return strata_.at(point)->weights(model);
  }

 private:
  std::vector<TrialInput> inputs(std::uint32_t point, const std::vector<TrialTask>& tasks,
                                 std::size_t model);
  std::vector<TrialOutcome> outcomes(std::uint32_t point, const std::vector<TrialTask>& tasks,
                                     std::size_t model);
  void add_audits(ChunkResult& result);
  AuditRow audit_of(const TrialRow& row);
  /// The faults of a trial from streams of this seed, as one image or all images have them.
  Faults drawn(std::uint32_t point, std::uint64_t id, std::size_t model, std::int32_t stratum,
               std::uint64_t seed);
  Faults listed(const FaultList& list, std::uint32_t point, std::uint64_t id) const;
  FaultSite channel_site(const ChannelFaults& sampler, const FaultSpace& space, const RngKey& key);

  std::vector<TrialEngine> engines_;
  std::vector<SiteMap> maps_;  // from models[0]
  std::vector<CampaignPoint> points_;
  std::vector<double> audit_rates_;                         // by point
  std::vector<std::unique_ptr<StratifiedSampler>> strata_;  // by point; null: simple
  ImageBlocks blocks_;
  std::uint64_t seed_;
  std::vector<std::uint64_t> image_seeds_;  // by image; where faults are of one image each
  // The last channel's, as drawing it anew for each of its trials would cost as much as them all.
  std::optional<ChannelOrder> order_;
  std::uint32_t order_of_ = 0;  // its stream
};

}  // namespace sentinel
