#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "sentinel/campaign/setup.hpp"
#include "sentinel/fault/sampler.hpp"
#include "sentinel/fault/trial_engine.hpp"
#include "sentinel/store/schema.hpp"

namespace sentinel {

/// Runs trials of a campaign on one rank: for every model an engine and the way faults of the first
/// (original) model carry over. The records of (point, id) are a pure function of the campaign,
/// whatever was run before.
class TrialRunner {
 public:
  /// `models[0]` is the original; `points` by number; `images` are those evaluated.
  TrialRunner(const std::vector<NamedModel>& models, const Batch& images,
              std::vector<Sampler> points, std::uint64_t seed, const EngineOptions& options);

  /// One record per model, in model order; wall_us filled in, session and rank are the caller's.
  std::vector<TrialRecord> run(std::uint32_t point, std::uint64_t id);
  /// The faults of a trial on one model.
  Faults faults(std::uint32_t point, std::uint64_t id, std::size_t model);
  const TrialEngine& engine(std::size_t model) const { return engines_.at(model); }
  std::size_t models() const { return engines_.size(); }

 private:
  FaultSite channel_site(const ChannelFaults& sampler, const FaultSpace& space, const RngKey& key);

  std::vector<TrialEngine> engines_;
  std::vector<SiteMap> maps_;  // from models[0]
  std::vector<Sampler> points_;
  std::uint64_t seed_;
  // The last channel's, as drawing it anew for each of its trials would cost as much as them all.
  std::optional<ChannelOrder> order_;
  std::uint32_t order_of_ = 0;  // its stream
};

}  // namespace sentinel
