#include <gmock/gmock.h>

#include <cmath>

#include "campaign/sampling.hpp"
#include "sentinel/campaign/validation.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/core/rng.hpp"
#include "sentinel/results/estimates.hpp"
#include "unit/estimates_support.hpp"
#include "unit/tolerances.hpp"

namespace sentinel {
namespace {

using ::testing::HasSubstr;

std::string refusal(const Job& job) {
  try {
    validate(job);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(Division, IsRefusedWithWhatToUseInstead) {
  Job job;
  job.output = "r.h5";
  job.fault_count = kSingleFault;
  job.sampling = Sampling::kEqual;
  job.division = DivideBy::kLayer;
  EXPECT_EQ(refusal(job), "");
  for (const char* count : {"binomial", "exact:2", "per-layer-floor"}) {
    job.fault_count = parse_fault_count(count);
    EXPECT_THAT(refusal(job), HasSubstr("needs single-bit")) << count;
    EXPECT_THAT(refusal(job), HasSubstr("by layers")) << count;
  }
  job.division = DivideBy::kClass;
  EXPECT_THAT(refusal(job), HasSubstr("by fault-target"));
  job.sampling = Sampling::kStratified;
  job.division = DivideBy::kBit;
  EXPECT_THAT(refusal(job), HasSubstr("by bits"));
  job.fault_count = kSingleFault;
  job.precision.half_width = 0.01;
  EXPECT_THAT(refusal(job), HasSubstr("about 9604 trials for each stratum"));
  job.precision.half_width = 0;
  job.faults.model.effect = Effect::kRandomWord;
  EXPECT_THAT(refusal(job), HasSubstr("choose per-layer or per-class"));
}

TEST(DividedPoint, WantsTrialsOfEachStratum) {
  CampaignPoint point{ExactFaults{1}, 43};
  point.sampling = Sampling::kEqual;
  point.division = DivideBy::kLayer;
  try {
    check_enough_trials(point, 22);
    FAIL() << "no error";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), HasSubstr("22 strata need at least 44 trials, 2 of each, not 43"));
  }
  point.trials = 44;
  EXPECT_NO_THROW(check_enough_trials(point, 22));
  point.trials = 1;
  point.whole = 44;
  EXPECT_NO_THROW(check_enough_trials(point, 22)) << "a range of trials is joined with others";
  point.whole = 0;
  EXPECT_NO_THROW(check_enough_trials(point, 22)) << "nobody says how many these have";
  point.whole = 43;
  EXPECT_THROW(check_enough_trials(point, 22), UserError);
}

constexpr std::uint32_t kImages = 100;

/// Two networks of three strata; the first lacks the last stratum, the second has other shares.
ResultInfo info_of(const std::string& sampling) {
  ResultInfo info;
  info.points = {{0, "T1", "exact:1", 0, 300, ""}};
  info.plans = {{0, sampling}};
  info.models = test::two_networks(kImages, 90, 90);
  info.strata = {{0, 0, "a.weight", 0.4, 1}, {0, 1, "b.weight", 0.6, 1}, {0, 2, "r.bound", 0, 1}};
  info.shares = {{0, 1, 0, 0.5}, {0, 1, 1, 0.3}, {0, 1, 2, 0.2}};
  return info;
}

/// Failing images of a trial, in percent, by model and stratum.
constexpr std::uint32_t kFailing[2][3] = {{50, 10, 0}, {20, 5, 40}};

std::vector<TrialRow> trial_of(std::uint64_t id, const TrialDraw& draw) {
  std::vector<TrialRow> rows;
  for (const std::uint32_t model : {0u, 1u}) {
    TrialRow row;
    row.id = id;
    row.model = model;
    row.stage = draw.stage;
    row.stratum = draw.stratum;
    row.probability = draw.probability;
    row.images = kImages;
    // Some scatter, that leaves the mean of two rounds as it is.
    const std::uint32_t fails = kFailing[model][draw.stratum];
    row.due = fails == 0 ? 0 : id / 3 % 2 == 0 ? fails - 2 : fails + 2;
    row.masked = kImages - row.due;
    row.correct = row.correct_argmax = 90 - row.due / 2;
    rows.push_back(row);
  }
  return rows;
}

const EstimateRow* find(const std::vector<EstimateRow>& rows, std::int32_t model,
                        std::int32_t stratum, const std::string& quantity) {
  for (const EstimateRow& row : rows)
    if (row.model == model && row.stratum == stratum && row.quantity == quantity) return &row;
  return nullptr;
}

TEST(DividedEstimates, AreOfTheWholeAndOfEachStratum) {
  const ResultInfo info = info_of("per-layer");
  PointEstimates estimates(info, 0);
  for (std::uint64_t id = 0; id < 300; ++id)
    estimates.add(trial_of(id, {0, static_cast<std::int32_t>(id % 3), 1.0 / 3}));
  const std::vector<EstimateRow> rows = estimates.look();
  // The strata's own: means of their trials.
  for (const std::int32_t model : {0, 1})
    for (const std::int32_t h : {0, 1, 2}) {
      const EstimateRow* due = find(rows, model, h, "due");
      if (model == 0 && h == 2) {
        EXPECT_EQ(due, nullptr) << "the first network has nothing of it";
        continue;
      }
      ASSERT_NE(due, nullptr);
      EXPECT_NEAR(due->estimate, kFailing[model][h] / 100.0, test::kDoubles);
      EXPECT_EQ(due->method, "Korn-Graubard");
      EXPECT_EQ(due->trials, 100u);
      EXPECT_EQ(find(rows, model, h, "accuracy")->method, "betting");
    }
  // The whole: weighted by the shares of each network.
  EXPECT_NEAR(find(rows, 0, -1, "due")->estimate, 0.4 * 0.5 + 0.6 * 0.1, test::kDoubles);
  EXPECT_NEAR(find(rows, 1, -1, "due")->estimate, 0.5 * 0.2 + 0.3 * 0.05 + 0.2 * 0.4,
              test::kDoubles);
  EXPECT_EQ(find(rows, 0, -1, "due")->trials, 200u);
  EXPECT_EQ(find(rows, 1, -1, "due")->trials, 300u);
  EXPECT_EQ(estimates.used(), 300u);
  // Differences: of the whole between networks of their own shares, of strata that both have.
  const EstimateRow* difference = find(rows, 1, -1, "accuracy_difference");
  EXPECT_NEAR(difference->estimate,
              find(rows, 1, -1, "accuracy")->estimate - find(rows, 0, -1, "accuracy")->estimate,
              test::kDoubles);
  EXPECT_EQ(difference->method, "two-sample MOVER");
  EXPECT_LT(difference->lower, difference->estimate);
  EXPECT_EQ(find(rows, 1, 0, "accuracy_difference")->method, "two-sample betting");
  EXPECT_EQ(find(rows, 1, 2, "accuracy_difference"), nullptr);
  // The whole first: readers that take the first row of a quantity mean it.
  EXPECT_EQ(rows.front().stratum, -1);
}

TEST(DividedEstimates, LeaveOutThePilot) {
  const ResultInfo info = info_of("per-layer:allocated");
  PointEstimates estimates(info, 0);
  for (std::uint64_t id = 0; id < 120; ++id)
    estimates.add(trial_of(id, {id < 60 ? std::uint8_t{1} : std::uint8_t{0},
                                static_cast<std::int32_t>(id % 3), 1.0 / 3}));
  const std::vector<EstimateRow> rows = estimates.look();
  EXPECT_EQ(find(rows, 1, 1, "due")->trials, 20u);
  EXPECT_EQ(estimates.used(), 60u);
}

TEST(DividedDesign, IsAllocatedByTheMeanOfTheNetworksShares) {
  const std::vector<double> mean = mean_weights(info_of("per-layer:allocated"), 0);
  EXPECT_THAT(mean, ::testing::Pointwise(::testing::DoubleNear(1e-12),
                                         std::vector<double>{0.45, 0.45, 0.1}));
}

}  // namespace
}  // namespace sentinel
