#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "campaign/result_info.hpp"
#include "campaign/sampling.hpp"
#include "sentinel/fault/strata.hpp"
#include "unit/fault_nets.hpp"

namespace sentinel {
namespace {

constexpr std::uint64_t kSeed = 67, kPool = 400, kPlain = 2000;
constexpr int kReplicates = 500, kImages = 16;

/// The network of the fault tests with weights in a code, and the share of images that fail in
/// trials of its strata.
class CodedNet {
 public:
  CodedNet(const std::string& layout, double ber)
      : graph_(stored(layout)),
        engine_(graph_.clone(), test::random_images(kImages), options()),
        sampler_(BinomialFaults{ber}, {{graph_, engine_.space()}}) {}
  const Strata& strata() const { return sampler_.strata(); }
  std::vector<double> losses(std::int32_t stratum, std::uint64_t trials) {
    std::vector<TrialInput> inputs;
    for (std::uint64_t t = 0; t < trials; ++t)
      inputs.push_back({sampler_.draw(engine_.space(), stratum, {kSeed, 1, t})});
    std::vector<double> lost;
    for (const TrialOutcome& outcome : engine_.run_batch(inputs))
      lost.push_back((outcome.result.sdc_critical + double(outcome.result.due)) / kImages);
    return lost;
  }

 private:
  static Graph stored(const std::string& layout) {
    Graph graph = test::residual_net();
    for (const StoredTensor& tensor : stored_tensors(graph))
      if (tensor.kind == TensorClass::kWeight) store_as(graph, tensor.name, parse_layout(layout));
    return graph;
  }
  static EngineOptions options() {
    EngineOptions options;
    options.selection.targets = {TensorClass::kWeight, TensorClass::kCheck};
    return options;
  }
  Graph graph_;
  TrialEngine engine_;
  StratifiedSampler sampler_;
};

double mean_of(const std::vector<double>& all) {
  return std::accumulate(all.begin(), all.end(), 0.0) / static_cast<double>(all.size());
}

/// Of the mean.
double variance_of(const std::vector<double>& all) {
  double sum = 0;
  for (const double x : all) sum += (x - mean_of(all)) * (x - mean_of(all));
  const auto n = static_cast<double>(all.size());
  return sum / (n - 1) / n;
}

using Pools = std::vector<std::vector<double>>;  // losses by stratum that gets trials

/// The interval of a stratified plan of trials from the pools.
Interval replicate(const SampledStrata& strata, const Pools& pools, std::uint64_t trials,
                   std::uint64_t number) {
  DesignOptions plan;
  plan.sampling = Sampling::kStratified;
  plan.trials = trials;
  plan.weights = strata.weights;
  plan.costs = strata.costs;
  plan.pilot = plan.minimum = 30;
  plan.losses = true;
  plan.seed = number;
  Design design(plan);
  EstimateOptions options;
  options.estimate = strata.known > 0 ? Estimate::kJoined : Estimate::kGuarded;
  options.weights = strata.weights;
  options.known_weight = strata.known;
  Estimator estimator(options);
  Rng rng({kSeed, 2, number, Purpose::kSynthetic});
  for (std::uint64_t id = 0; id < trials; ++id) {
    const TrialDraw draw = design.draw(id);
    const std::vector<double>& pool = pools[static_cast<std::size_t>(draw.stratum)];
    const double value = pool[rng.below(pool.size())];
    design.observe({value});
    estimator.add(draw, value);
  }
  return estimator.interval();
}

/// Estimates look at the number of words, and never at the name of a stratum.
TEST(StrataOfWords, AreDescribedByTheirCounts) {
  for (const bool of_words : {false, true}) {
    ResultInfo info;
    info.models.resize(2);
    const Strata strata{{"a", "b", "c"}, {0.05, 0.25, 0.7}, {1, 1, 0}, {2, 1, 0}, of_words};
    CampaignPoint point{BinomialFaults{1e-3}, 2000};
    point.sampling = Sampling::kStratified;
    describe_point(info, point, &strata);
    EXPECT_EQ(info.strata.front().misread, of_words ? 2 : -1);
    EXPECT_EQ(counts_words_read_wrongly(info, 0), of_words);
  }
}

struct Case {
  const char* layout;
  double ber;
};
void PrintTo(const Case& own, std::ostream* out) {
  *out << own.layout << " " << own.ber;
}

class UnitStrataPlans : public ::testing::TestWithParam<Case> {};

/// The strata's mixture is what plain trials show, and stratified intervals cover it, also where
/// few images fail.
TEST_P(UnitStrataPlans, EstimateWhatPlainTrialsDo) {
  CodedNet net(GetParam().layout, GetParam().ber);
  const SampledStrata strata = sampled_strata(net.strata().weights, net.strata().costs);
  ASSERT_GT(strata.weights.size(), 1u);
  Pools pools;
  double truth = 0, variance = 0;
  for (std::size_t h = 0; h < strata.weights.size(); ++h) {
    pools.push_back(net.losses(static_cast<std::int32_t>(h), kPool));
    const double share = net.strata().weights[h];
    truth += share * mean_of(pools.back());
    variance += share * share * variance_of(pools.back());
  }
  const std::vector<double> plain = net.losses(-1, kPlain);
  EXPECT_GT(truth, 0.002) << "nothing fails";
  EXPECT_NEAR(truth, mean_of(plain), 4 * std::sqrt(variance + variance_of(plain)));

  for (const std::uint64_t trials : {400u, 800u}) {
    int covered = 0;
    double mean = 0;
    for (std::uint64_t number = 0; number < kReplicates; ++number) {
      const Interval interval = replicate(strata, pools, trials, number);
      covered += interval.lower <= truth && truth <= interval.upper ? 1 : 0;
      mean += interval.estimate / kReplicates;
    }
    EXPECT_GE(covered, 0.925 * kReplicates) << trials;  // 0.95 less 2.5 standard errors
    EXPECT_NEAR(mean, truth,
                4 * std::sqrt(variance_of(plain) * kPlain / double(trials) / kReplicates));
  }
}

INSTANTIATE_TEST_SUITE_P(Codes, UnitStrataPlans,
                         ::testing::Values(Case{"int8+secded:64", 1e-3},
                                           Case{"int8+secded:64", 5e-3}, Case{"int8+spw", 3e-3},
                                           Case{"fp32+mset", 4e-3}, Case{"fp32+parity", 2e-3}));

}  // namespace
}  // namespace sentinel
