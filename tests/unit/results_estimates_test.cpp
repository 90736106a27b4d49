#include "sentinel/results/estimates.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "sentinel/core/rng.hpp"
#include "sentinel/stats/design.hpp"
#include "unit/estimates_support.hpp"
#include "unit/tolerances.hpp"

namespace sentinel {
namespace {

constexpr std::uint32_t kImages = 100;

struct Plan {
  std::string sampling, estimand;
  bool guaranteed = false;
};
void PrintTo(const Plan& plan, std::ostream* out) {
  *out << plan.sampling << " " << plan.estimand << (plan.guaranteed ? ", guaranteed" : "");
}

/// A campaign on two networks of 90 % and 80 % accuracy, of three strata where they are wanted.
ResultInfo info_of(const Plan& plan) {
  ResultInfo info;
  info.points = {{0, plan.estimand, plan.estimand == "T1" ? "exact:1" : "binomial", 0, 2000, ""}};
  info.plans = {{0, plan.sampling}};
  info.plans[0].guaranteed = plan.guaranteed ? 1 : 0;
  info.plans[0].half_width = plan.sampling == "simple" ? 0 : 0.01;
  info.models = test::two_networks(kImages, 90, 80);
  if (plan.sampling != "simple")
    for (std::int32_t h = 0; h < 3; ++h)
      info.strata.push_back({0, h, "", std::array<double, 3>{0.05, 0.25, 0.7}[std::size_t(h)], 1});
  return info;
}

Design design_of(const Plan& plan) {
  DesignOptions options;
  options.sampling = sampling_of(plan.sampling).sampling;
  options.trials = 2000;
  if (plan.sampling != "simple") {
    options.weights = {0.05, 0.25, 0.7};
    options.costs = {1, 1, 1};
  }
  options.supposed = {0.5, 0, 0};
  options.precision.half_width = 0.01;
  options.losses = plan.estimand != "T1";
  options.seed = 5;
  return Design(options);
}

/// Failing trials mostly come from the first stratum; all images fall into one of four classes.
TrialRow row_of(std::uint64_t id, std::uint32_t model, const TrialDraw& draw) {
  Rng rng({9, model, id, Purpose::kSynthetic});
  TrialRow row;
  row.id = id;
  row.model = model;
  row.stage = draw.stage;
  row.stratum = draw.stratum;
  row.probability = draw.probability;
  row.images = kImages;
  const double fails = draw.stratum <= 0 ? 0.5 : 0.02;
  if (rng.uniform() < fails) row.sdc_critical = static_cast<std::uint32_t>(rng.below(60));
  if (rng.uniform() < fails / 2) row.due = static_cast<std::uint32_t>(rng.below(30));
  row.masked = static_cast<std::uint32_t>(rng.below(kImages - row.sdc_critical - row.due + 1));
  row.sdc_noncritical = kImages - row.sdc_critical - row.due - row.masked;
  row.correct = (model == 0 ? 90 : 80) - (row.sdc_critical + row.due) / 2;
  row.correct_argmax = row.correct;
  return row;
}

double estimate(const std::vector<EstimateRow>& rows, std::int32_t model,
                const std::string& quantity) {
  for (const EstimateRow& row : rows)
    if (row.model == model && row.quantity == quantity) return row.estimate;
  throw std::out_of_range(quantity);
}

class AllPlans : public ::testing::TestWithParam<Plan> {};

TEST_P(AllPlans, OutcomeSharesSumToOne) {
  PointEstimates estimates(info_of(GetParam()), 0);
  Design design = design_of(GetParam());
  for (std::uint64_t id = 0; id < 2000 && id < design.ready(); ++id) {
    const TrialDraw draw = design.draw(id);
    const std::vector<TrialRow> trial = {row_of(id, 0, draw), row_of(id, 1, draw)};
    estimates.add(trial);
    if (GetParam().sampling != "simple") design.observe(estimates.observed(trial));
    if (estimates.used() == 0 || id % 97 != 0) continue;
    const std::vector<EstimateRow> rows = estimates.look();
    for (const std::int32_t model : {0, 1}) {
      double sum = 0;
      for (const char* quantity : {"masked", "sdc_noncritical", "sdc_critical", "due"})
        sum += estimate(rows, model, quantity);
      EXPECT_NEAR(sum, 1, test::kDoubles) << GetParam().sampling << " after trial " << id;
      EXPECT_NEAR(estimate(rows, model, "failing"),
                  estimate(rows, model, "sdc_critical") + estimate(rows, model, "due"),
                  test::kDoubles);
    }
    for (const EstimateRow& row : rows) {
      EXPECT_LE(row.lower, row.estimate) << row.quantity;
      EXPECT_GE(row.upper, row.estimate) << row.quantity;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Estimates, AllPlans,
    ::testing::Values(Plan{"simple", "T1"}, Plan{"simple", "T2"}, Plan{"stratified", "T1"},
                      Plan{"stratified", "T2"}, Plan{"stratified", "T1", true},
                      Plan{"allocated", "T1"}, Plan{"sequential", "T1"}, Plan{"sequential", "T2"},
                      Plan{"sequential", "T1", true}, Plan{"sequential", "T2", true}),
    [](const auto& test) {
      const Plan& plan = test.param;
      return plan.sampling + plan.estimand + (plan.guaranteed ? "guaranteed" : "");
    });

/// Where each image has faults of its own, shares count images. A difference of two networks has
/// another range, and trials as its unit.
TEST(OwnFaultsOfImages, CountImagesAndNeverTheirDifferences) {
  for (const bool paired : {true, false})
    for (const int gain : {-7, 0, 7}) {
      ResultInfo info = info_of({"simple", paired ? "T2" : "T1"});
      info.points[0].lifetime = "image";
      PointEstimates estimates(info, 0);
      for (std::uint64_t id = 0; id < 40; ++id) {
        std::vector<TrialRow> trial(2);
        for (std::uint32_t model = 0; model < 2; ++model) {
          TrialRow& row = trial[model];
          row.id = id;
          row.model = model;
          row.images = kImages;
          row.correct = row.correct_argmax =
              70 + static_cast<std::uint32_t>(model == 1 ? gain + 10 : 10);
          row.due = kImages - row.correct;
          row.masked = row.correct;
        }
        estimates.add(trial);
      }
      const std::vector<EstimateRow> rows = estimates.look();
      for (const EstimateRow& row : rows) {
        EXPECT_EQ(row.method == "Clopper-Pearson over images", row.against < 0) << row.quantity;
        EXPECT_LE(row.lower, row.estimate);
        EXPECT_GE(row.upper, row.estimate);
        if (row.against >= 0) {
          EXPECT_NEAR(row.estimate, gain / 100.0, test::kDoubles);
        }
      }
      EXPECT_EQ(rows.back().against, 0);
    }
}

/// Blocks of images with which the faults do what they do by chance alone: the loss on those that
/// were drawn may be more than the whole accuracy. No accuracy is below 0.
TEST(EstimatesFromBlocks, StayWhereAccuracyCanBe) {
  ResultInfo info = info_of({"simple", "T2"});
  info.image_blocks.resize(kImages);
  info.labels.resize(kImages);
  for (ModelInfo& model : info.models) model.golden_predictions.resize(kImages, 1);
  for (std::size_t i = 0; i < kImages; ++i) {
    info.image_blocks[i] = i < 50 ? 0 : 1;
    if (i < 50)
      for (ModelInfo& model : info.models) model.golden_predictions[i] = 0;  // right
  }
  for (ModelInfo& model : info.models) model.correct = 50;
  PointEstimates estimates(info, 0);
  for (std::uint64_t id = 0; id < 20; ++id) {
    std::vector<TrialRow> trial(2);
    for (std::uint32_t model = 0; model < 2; ++model) {
      trial[model].id = id;
      trial[model].model = model;
      trial[model].images = trial[model].sdc_critical = 50;
    }
    estimates.add(trial);
  }
  for (const EstimateRow& row : estimates.look()) {
    EXPECT_GE(row.estimate, 0) << row.quantity;
    EXPECT_LE(row.lower, row.estimate) << row.quantity;
    EXPECT_GE(row.upper, row.estimate) << row.quantity;
    if (row.quantity == "accuracy") {
      EXPECT_EQ(row.estimate, 0);
    }
  }
}

/// Losses are rare where words are read right; the strata have intervals of their own then.
TEST(StrataOfWords, AreToldWhateverTheyAreCalled) {
  for (const bool of_words : {false, true}) {
    ResultInfo info = info_of({"stratified", "T2"});
    for (StratumInfo& stratum : info.strata) stratum.misread = of_words ? 2 - stratum.stratum : -1;
    PointEstimates estimates(info, 0);
    for (std::uint64_t id = 0; id < 90; ++id) {
      const TrialDraw draw{0, static_cast<std::int32_t>(id % 3), 1};
      estimates.add({row_of(id, 0, draw), row_of(id, 1, draw)});
    }
    EXPECT_EQ(estimates.look().front().method, of_words ? "MOVER" : "guarded stratified t");
  }
}

/// A reader of the file has the rows, the centres of the rounds and the weights.
TEST(SequentialShares, AreThePlainMeanOfWhatTheFileHolds) {
  const Plan plan{"sequential", "T1"};
  PointEstimates estimates(info_of(plan), 0);
  Design design = design_of(plan);
  std::vector<TrialRow> rows;
  for (std::uint64_t id = 0; id < 700; ++id) {
    const TrialDraw draw = design.draw(id);
    rows.push_back(row_of(id, 0, draw));
    const std::vector<TrialRow> trial = {rows.back(), row_of(id, 1, draw)};
    estimates.add(trial);
    design.observe(estimates.observed(trial));
  }
  const double weights[] = {0.05, 0.25, 0.7};
  double due = 0;
  for (const TrialRow& row : rows) {
    std::uint32_t round = 0;
    while (row.id >= design.rounds()[round].first + design.rounds()[round].trials) ++round;
    for (const CentreInfo& c : estimates.centres())
      if (c.round == round && c.model == 0)
        due += (c.due + weights[row.stratum] / row.probability * (row.due / 100.0 - c.due)) / 700;
  }
  EXPECT_NEAR(estimate(estimates.look(), 0, "due"), due, test::kDoubles);
  EXPECT_EQ(estimates.centres().front().due, 0.25);
  EXPECT_EQ(estimates.centres().size(), 2 * 5u) << "rounds of 32, 64, 128, 256, 256 trials";
}

TEST(ListedEstimates, AreMeansWithoutIntervals) {
  ResultInfo info = info_of({"simple", kListed});
  info.points[0].fault_model = kListed;
  PointEstimates estimates(info, 0);
  const Design design = design_of({"simple", kListed});
  double correct = 0;
  for (std::uint64_t id = 0; id < 7; ++id) {
    const std::vector<TrialRow> trial = {row_of(id, 0, design.draw(id)),
                                         row_of(id, 1, design.draw(id))};
    correct += trial[1].correct / 7.0 / kImages;
    estimates.add(trial);
  }
  EXPECT_EQ(estimates.headline().find('['), std::string::npos);
  for (const EstimateRow& row : estimates.look()) {
    EXPECT_EQ(row.method, kListed) << row.quantity;
    EXPECT_TRUE(std::isnan(row.lower) && std::isnan(row.upper)) << row.quantity;
    EXPECT_EQ(row.trials, 7u);
    if (row.quantity == "accuracy" && row.model == 1) {
      EXPECT_NEAR(row.estimate, correct, test::kDoubles);
    }
  }
}

TEST(SimpleEstimates, NameTheirFamily) {
  PointEstimates estimates(info_of({"simple", "T2"}), 0);
  const auto method = [&](const std::string& quantity) {
    std::string found;
    for (const EstimateRow& row : estimates.look())
      if (row.quantity == quantity) found = row.method;
    return found;
  };
  for (std::uint64_t id = 0; id < 499; ++id) estimates.add({row_of(id, 0, {}), row_of(id, 1, {})});
  EXPECT_EQ(method("accuracy"), "betting");
  EXPECT_EQ(method("accuracy_difference"), "paired betting");
  estimates.add({row_of(499, 0, {}), row_of(499, 1, {})});
  EXPECT_EQ(method("accuracy"), "t over trials");
  EXPECT_EQ(method("failing"), "t over trials");
  EXPECT_EQ(method("accuracy_difference"), "paired t over trials");
}

EstimateRow row_of(const PointEstimates& estimates, std::int32_t model,
                   const std::string& quantity) {
  for (const EstimateRow& row : estimates.look())
    if (row.model == model && row.quantity == quantity) return row;
  throw std::out_of_range(quantity);
}

/// The second network reads all words right but for 1 trial in 100 000; the first is not coded.
TEST(BoundedEstimates, AnswerForOneNetworkOfSeveral) {
  for (const char* sampling : {"simple", "stratified", "sequential"}) {
    const Plan plan{sampling, "T2"};
    ResultInfo info = info_of(plan);
    PointEstimates alone(info, 0);
    info.bounds = {{0, 1, 1e-5}};
    PointEstimates estimates(info, 0);
    Design design = design_of(plan);
    for (std::uint64_t id = 0; id < 400; ++id) {
      const TrialDraw draw = design.draw(id);
      const std::vector<TrialRow> trial = {row_of(id, 0, draw), row_of(id, 1, draw)};
      estimates.add(trial);
      alone.add(trial);
      design.observe(estimates.observed(trial));
    }
    const EstimateRow first = row_of(estimates, 0, "accuracy");
    EXPECT_EQ(first.lower, row_of(alone, 0, "accuracy").lower);
    const EstimateRow second = row_of(estimates, 1, "accuracy");
    EXPECT_EQ(second.method, "bound: P(any word read wrongly)");
    EXPECT_EQ(second.estimate, 0.8);
    EXPECT_NEAR(second.upper, 0.8 + 1e-5, test::kDoubles);
    EXPECT_EQ(second.trials, 0u);
    EXPECT_EQ(row_of(estimates, 1, "masked").estimate, 1);
    EXPECT_NEAR(row_of(estimates, 1, "failing").upper, 1e-5, test::kDoubles);
    const EstimateRow difference = row_of(estimates, 1, "accuracy_difference");
    EXPECT_EQ(difference.method, first.method + " and bound");
    EXPECT_EQ(difference.trials, first.trials);
    EXPECT_NEAR(difference.lower, second.lower - first.upper, test::kDoubles);
    EXPECT_NEAR(difference.upper, second.upper - first.lower, test::kDoubles);
    EXPECT_GT(estimates.used(), 0u);
  }
}

TEST(BoundedEstimates, NeedNoTrialWhereTheyAnswerForAll) {
  ResultInfo info = info_of({"simple", "T2"});
  info.bounds = {{0, 0, 1e-6}, {0, 1, 1e-5}};
  PointEstimates estimates(info, 0);
  const std::vector<EstimateRow> before = estimates.look();
  EXPECT_EQ(before.size(), 15u);
  estimates.add({row_of(0, 0, {}), row_of(0, 1, {})});
  EXPECT_EQ(estimates.used(), 0u);
  const EstimateRow difference = row_of(estimates, 1, "accuracy_difference");
  EXPECT_EQ(difference.method, "bound: P(any word read wrongly)");
  EXPECT_NEAR(difference.lower, -0.1 - 1.1e-5, test::kDoubles);
  for (std::size_t i = 0; i < before.size(); ++i)
    EXPECT_EQ(estimates.look()[i].upper, before[i].upper);
}

/// Channels of 9 bits and of 18: the plain sample draws each bit once, so that 9 trials are all of
/// the first and half of the second.
TEST(ChannelEstimates, KnowAChannelWhoseBitsWereAllTried) {
  ResultInfo info = info_of({"simple", "T1"});
  info.models.resize(1);
  info.models[0].tensors = {{"a.weight", 0, 18, 18, 1}, {"b.weight", 0, 40, 36, 1}};
  info.points.clear();
  for (const char* name : {"channel:a:0", "channel:a:1", "channel:b:0", "channel:b:1"})
    info.points.push_back({0, "T1 of a channel", name, 0, 9, ""});
  info.plans.clear();
  PointEstimates whole(info, 1), half(info, 3);
  info.image_blocks = std::vector<std::int32_t>(kImages, 0);
  info.labels = info.models[0].golden_predictions = info.image_blocks;
  PointEstimates blocks(info, 1);
  for (std::uint64_t id = 0; id < 9; ++id)
    for (PointEstimates* point : {&whole, &half, &blocks}) {
      TrialRow row = row_of(id, 0, {});
      row.block = 0;
      row.sdc_critical = id % 3 == 0 ? 50 : 0;
      row.due = 0;
      point->add({row});
    }
  const auto failing = [](const PointEstimates& point) { return point.look().at(3); };
  EXPECT_EQ(failing(whole).method, "census");
  EXPECT_EQ(failing(whole).upper, failing(whole).lower);
  EXPECT_EQ(failing(half).method, "Korn-Graubard");
  EXPECT_EQ(failing(blocks).method, "Korn-Graubard");
  EXPECT_LT(failing(half).upper - failing(half).lower,
            0.9 * (failing(blocks).upper - failing(blocks).lower));
}

}  // namespace
}  // namespace sentinel
