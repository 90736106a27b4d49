#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <tuple>

#include "sentinel/campaign/ranking.hpp"
#include "sentinel/core/stop.hpp"
#include "sentinel/fault/trial_engine.hpp"
#include "sentinel/networks/network.hpp"
#include "sentinel/networks/selection.hpp"
#include "sentinel/transform/channel_faults.hpp"
#include "unit/fault_nets.hpp"
#include "unit/tolerances.hpp"

namespace sentinel {
namespace {

using ::testing::HasSubstr;

constexpr std::int64_t kImages = 6;
constexpr std::uint64_t kEveryBit = 1'000'000;

// ---- how many trials
// -----------------------------------------------------------------------------

TEST(ChannelSampleSize, AgreesWithHandNumbers) {
  ChannelSampling uncapped;
  uncapped.cap = kEveryBit;
  // 1.96^2 / 4 = 0.9604; 864 / (1 + 1e-4 * 863 / 0.9604) = 792.76
  EXPECT_EQ(channel_sample_size(864, uncapped), 793u);
  EXPECT_EQ(channel_sample_size(18432, uncapped), 6315u);  // 6314.28
  EXPECT_EQ(channel_sample_size(18432, {}), 2000u);
  EXPECT_EQ(channel_sample_size(1, {}), 1u);
  uncapped.error = 1e-6;  // nothing less than all of them will do
  EXPECT_EQ(channel_sample_size(864, uncapped), 864u);
}

// ---- scores from rows
// ----------------------------------------------------------------------------

/// Two convolutions of two channels each: 96 and 576 bits per channel.
NamedModel tiny_model() {
  test::Builder b(3, {3, {32, 32}});
  NodeId x = b.graph.add("conv1", b.conv(3, 2, 1, 1, false), {0});
  x = b.graph.add("relu", Activation{}, {x});
  x = b.graph.add("pool", AdaptiveAvgPool{{8, 8}}, {x});
  x = b.graph.add("conv2", b.conv(2, 2, 3, 1, true), {x});
  x = b.graph.add("relu2", Activation{}, {x});
  x = b.graph.add("avgpool", AdaptiveAvgPool{}, {x});
  x = b.graph.add("flatten", Flatten{}, {x});
  b.linear("fc", x, 2, 10);
  b.graph.architecture = "tiny";
  b.graph.dataset = "synthetic";
  b.graph.state_order = {"conv1.weight", "conv2.weight", "conv2.bias", "fc.weight", "fc.bias"};
  NamedModel model;
  model.name = "unprotected";
  model.graph = std::move(b.graph);
  model.sha256 = "tiny";
  return model;
}

struct ChannelRun {
  // CTest runs cases side by side: each has a folder of its own.
  std::filesystem::path folder = std::filesystem::path(::testing::TempDir()) /
                                 ("sentinel_channels_" + std::to_string(::getpid()));
  NamedModel model = tiny_model();
  RankingJob job;
  ChannelRun() {
    std::filesystem::remove_all(folder);
    std::filesystem::create_directories(folder);
    job.importance = kChannelFaults;
    job.images = kImages;
    job.channel_faults.sampling = {1e-6, 1.96, 0.5, kEveryBit};
    job.channel_faults.output = (folder / "trials.h5").string();
  }
  ~ChannelRun() { std::filesystem::remove_all(folder); }
  ChannelScores scores() const {
    return channel_scores(Comm::local(), model, ModelSelection{}, job, at::kCPU);
  }
  ResultFile result() const { return read_result(job.channel_faults.output); }
};

std::vector<std::tuple<std::uint32_t, std::uint64_t, std::uint32_t, std::uint32_t, std::uint32_t>>
outcomes(const ResultFile& result) {
  std::vector<std::tuple<std::uint32_t, std::uint64_t, std::uint32_t, std::uint32_t, std::uint32_t>>
      rows;
  for (const TrialRow& row : result.trials)
    rows.emplace_back(row.point, row.id, row.correct, row.sdc_critical, row.due);
  return rows;
}

void expect_same(const ChannelScores& a, const ChannelScores& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t l = 0; l < a.size(); ++l) {
    EXPECT_EQ(a[l].layer, b[l].layer);
    EXPECT_EQ(a[l].scores, b[l].scores);
    EXPECT_EQ(a[l].sample.lower, b[l].sample.lower);
    EXPECT_EQ(a[l].sample.upper, b[l].sample.upper);
    EXPECT_EQ(a[l].sample.accuracy, b[l].sample.accuracy);
    EXPECT_EQ(a[l].sample.trials, b[l].sample.trials);
  }
}

// Every bit of every channel, flipped one by one through the reference path.
TEST(ChannelFi, FullSampleIsTheExhaustiveEnumeration) {
  const ChannelRun run;
  const ChannelScores scores = run.scores();
  const Dataset images = read_dataset("synthetic", "", Split::kTrain).first(kImages);
  TrialEngine engine(run.model.graph.clone(), images.batch(0, kImages, {}), {});
  ASSERT_EQ(scores.size(), 2u);
  double largest = 0;
  std::size_t point = 0;
  for (const FaultChannel& channel : fault_channels(run.model.graph)) {
    const std::size_t l = channel.layer == "conv1" ? 0 : 1;
    const auto c = static_cast<std::size_t>(channel.channel);
    const FaultTensor& tensor = engine.space().tensors()[l];
    std::uint64_t failing = 0, correct = 0;
    for (std::uint64_t bit = 0; bit < channel.bits; ++bit) {
      const std::uint64_t index = tensor.first_site + c * channel.bits + bit;
      const TrialResult result = engine.run_reference({engine.space().at(index)}).result;
      failing += result.sdc_critical + result.due;
      correct += result.correct;
    }
    const double all = static_cast<double>(channel.bits) * kImages;
    // A running mean of up to 1000 shares: each step rounds by 1e-16.
    EXPECT_NEAR(scores[l].scores.at(c), static_cast<double>(failing) / all, 1e-13);
    EXPECT_NEAR(scores[l].sample.accuracy.at(c), static_cast<double>(correct) / all, 1e-13);
    EXPECT_EQ(scores[l].sample.trials.at(c), channel.bits);
    EXPECT_LE(scores[l].sample.lower.at(c), scores[l].scores.at(c));
    EXPECT_GE(scores[l].sample.upper.at(c), scores[l].scores.at(c));
    largest = std::max(largest, scores[l].scores.at(c));
    const PointInfo info = run.result().info.points.at(point++);
    EXPECT_EQ(info.fault_model, "channel:" + channel.layer + ":" + std::to_string(c));
    EXPECT_EQ(info.estimand, "T1 of a channel");
    EXPECT_EQ(info.trials, channel.bits);
  }
  EXPECT_GT(largest, 0);
}

TEST(ChannelFi, StoppedAndResumedGivesTheSameRowsAndScores) {
  ChannelRun run;
  const ChannelScores undisturbed = run.scores();
  const ResultFile whole = run.result();
  run.job.channel_faults.fresh = true;
  run.job.channel_faults.sampling.cap = 40;
  run.scores();
  run.job.channel_faults.fresh = false;
  run.job.channel_faults.sampling.cap = kEveryBit;
  request_stop(SIGUSR1);
  try {
    run.scores();
    ADD_FAILURE() << "no stop";
  } catch (const SharedError& stop) {
    EXPECT_EQ(stop.code(), ExitCode::kStopped);
    EXPECT_THAT(stop.what(), HasSubstr("same command"));
  }
  request_stop(0);
  EXPECT_FALSE(run.result().complete);
  EXPECT_EQ(run.result().trials.size(), 4u * 40u);
  expect_same(run.scores(), undisturbed);
  EXPECT_EQ(outcomes(run.result()), outcomes(whole));
}

// Points are channels of the network, whichever layers are asked for.
TEST(ChannelFi, LayersAndTrialsExtendTheFile) {
  ChannelRun run;
  run.job.channel_faults.layers = {"conv2"};
  run.job.channel_faults.sampling.cap = 7;
  const ChannelScores one = run.scores();
  ASSERT_EQ(one.size(), 1u);
  EXPECT_EQ(one[0].layer, "conv2");
  EXPECT_EQ(one[0].sample.trials, (std::vector<std::uint64_t>{7, 7}));
  const auto some = outcomes(run.result());
  run.job.channel_faults.layers.clear();
  run.job.channel_faults.sampling.cap = 9;
  const ChannelScores both = run.scores();
  ASSERT_EQ(both.size(), 2u);
  EXPECT_EQ(both[0].sample.trials, (std::vector<std::uint64_t>{9, 9}));
  EXPECT_THAT(outcomes(run.result()), ::testing::IsSupersetOf(some));
  // A shorter sample uses the rows it would have drawn itself.
  run.job.channel_faults.layers = {"conv2"};
  run.job.channel_faults.sampling.cap = 7;
  expect_same(run.scores(), one);
}

// ---- to a half-width ---------------------------------------------------------------------------

struct HalfWidthRun : ChannelRun {
  HalfWidthRun(double half_width, std::int64_t images_per_trial) {
    job.channel_faults.sampling = {};
    job.channel_faults.half_width = half_width;
    job.channel_faults.images_per_trial = images_per_trial;
  }
};

/// Score of a channel by hand: sum W_h mean_h over the rows of each stratum, of their own images.
double score_of(const ResultFile& result, std::uint32_t point) {
  std::vector<double> sums(3), counts(3);
  for (const TrialRow& row : result.trials) {
    if (row.point != point) continue;
    const auto h = static_cast<std::size_t>(row.stratum);
    sums.at(h) += (static_cast<double>(row.sdc_critical) + row.due) / row.images;
    ++counts[h];
  }
  return sums[0] / counts[0] / 32 + 7 * sums[1] / counts[1] / 32 + 24 * sums[2] / counts[2] / 32;
}

TEST(ChannelFi, HalfWidthScoresAreWeightedMeansOfTheRows) {
  const HalfWidthRun run(0.1, 4);
  const ChannelScores scores = run.scores();
  const ResultFile result = run.result();
  EXPECT_TRUE(result.complete);
  ASSERT_EQ(result.info.image_blocks.size(), static_cast<std::size_t>(kImages));
  EXPECT_EQ(result.info.images_per_trial, 4);
  ASSERT_EQ(result.info.strata.size(), 4u * 3u);
  std::uint32_t point = 0;
  for (const LayerScores& layer : scores)
    for (std::size_t c = 0; c < layer.scores.size(); ++c, ++point) {
      EXPECT_NEAR(layer.scores[c], score_of(result, point), test::kDoubles);
      EXPECT_LE((layer.sample.upper[c] - layer.sample.lower[c]) / 2, 0.1);
      EXPECT_LE(layer.sample.lower[c], layer.scores[c]);
      EXPECT_GE(layer.sample.upper[c], layer.scores[c]);
      const auto rows = static_cast<std::uint64_t>(
          std::count_if(result.trials.begin(), result.trials.end(),
                        [point](const TrialRow& row) { return row.point == point; }));
      EXPECT_EQ(layer.sample.trials[c], rows);
      EXPECT_EQ(result.info.plans.at(point).sampling, "allocated");
      EXPECT_EQ(result.info.plans.at(point).reached, 1);
      EXPECT_EQ(result.info.points.at(point).trials, rows);
    }
  EXPECT_EQ(point, 4u);
  for (const TrialRow& row : result.trials) EXPECT_EQ(row.images, row.block == 0 ? 4u : 2u);
  for (const EstimateRow& row : result.estimates)
    EXPECT_EQ(row.method == "MOVER", row.quantity.rfind("accuracy", 0) != 0) << row.quantity;
}

// The estimand is that of the plain sample: the enumeration lies in all but a few intervals.
TEST(ChannelFi, HalfWidthIntervalsHoldTheEnumeration) {
  const ChannelRun plain;
  const ChannelScores truth = plain.scores();
  int held = 0, all = 0;
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    HalfWidthRun run(0.06, 2);
    run.job.seed = seed;
    run.job.channel_faults.fresh = true;
    const ChannelScores scores = run.scores();
    for (std::size_t l = 0; l < scores.size(); ++l)
      for (std::size_t c = 0; c < scores[l].scores.size(); ++c, ++all)
        held += scores[l].sample.lower[c] <= truth[l].scores[c] &&
                truth[l].scores[c] <= scores[l].sample.upper[c];
  }
  EXPECT_EQ(all, 24);
  EXPECT_GE(held, 20);  // P(fewer) < 0.01 of 24 at 0.95
}

TEST(ChannelFi, HalfWidthStoppedExtendedAndResumedIsTheSame) {
  HalfWidthRun run(0.1, 4);
  const ChannelScores undisturbed = run.scores();
  const ResultFile whole = run.result();
  run.job.channel_faults.fresh = true;
  run.job.channel_faults.layers = {"conv2"};
  run.job.channel_faults.sampling.cap = 11;  // within the first round
  const ChannelScores short_of_it = run.scores();
  EXPECT_EQ(short_of_it.at(0).sample.trials, (std::vector<std::uint64_t>{11, 11}));
  EXPECT_EQ(run.result().info.plans.back().reached, 0);
  run.job.channel_faults.fresh = false;
  run.job.channel_faults.layers.clear();
  run.job.channel_faults.sampling.cap = ChannelSampling().cap;
  expect_same(run.scores(), undisturbed);
  EXPECT_EQ(outcomes(run.result()), outcomes(whole));
}

TEST(ChannelFi, AnotherHalfWidthIsAnotherSample) {
  HalfWidthRun run(0.1, 4);
  run.scores();
  run.job.channel_faults.half_width = 0.09;
  try {
    run.scores();
    ADD_FAILURE() << "no error";
  } catch (const SharedError& error) {
    EXPECT_EQ(error.code(), ExitCode::kUsage);
    EXPECT_THAT(error.what(), HasSubstr("half-width 0.09"));
    EXPECT_THAT(error.what(),
                HasSubstr("give channel-fresh to start over, or another channel-trials"));
  }
}

TEST(ChannelFi, MistakesNameTheirOption) {
  ChannelRun run;
  const auto complaint = [&](auto change) -> std::string {
    RankingJob saved = run.job;
    change(run.job.channel_faults);
    std::string text;
    try {
      run.scores();
    } catch (const SharedError& error) {
      EXPECT_EQ(error.code(), ExitCode::kUsage);
      text = error.what();
    }
    run.job = saved;
    return text;
  };
  EXPECT_THAT(complaint([](ChannelFaultsJob& j) { j.sampling.error = 0; }),
              HasSubstr("channel-error 0 lies"));
  EXPECT_THAT(complaint([](ChannelFaultsJob& j) { j.sampling.t = -1; }),
              HasSubstr("channel-t -1 lies"));
  EXPECT_THAT(complaint([](ChannelFaultsJob& j) { j.sampling.p = 1; }),
              HasSubstr("channel-p 1 lies"));
  EXPECT_THAT(complaint([](ChannelFaultsJob& j) { j.sampling.cap = 0; }),
              HasSubstr("channel-cap 0"));
  EXPECT_THAT(complaint([](ChannelFaultsJob& j) { j.layers = {"conv9"}; }), HasSubstr("conv9"));
  EXPECT_THAT(complaint([](ChannelFaultsJob& j) { j.output.clear(); }),
              HasSubstr("or channel-trials FILE"));
  for (const double half_width : {0.0, 0.5, -0.1})
    EXPECT_THAT(complaint([&](ChannelFaultsJob& j) { j.half_width = half_width; }),
                HasSubstr("channel-half-width "));
  // The sample of this run has another --channel-error than usual.
  EXPECT_THAT(complaint([](ChannelFaultsJob& j) { j.half_width = 0.1; }),
              HasSubstr("channel-error has no part in channel-half-width"));
  EXPECT_THAT(complaint([](ChannelFaultsJob& j) { j.confidence = 1; }),
              HasSubstr("channel-confidence 1 lies"));
  EXPECT_THAT(complaint([](ChannelFaultsJob& j) { j.images_per_trial = 0; }),
              HasSubstr("channel-images-per-trial 0 must"));
}

TEST(ChannelFi, TrialsOfAnotherSeedAreRefusedNamingTheWayOut) {
  ChannelRun run;
  run.job.channel_faults.sampling.cap = 2;
  run.scores();
  run.job.seed = 9;
  try {
    run.scores();
    ADD_FAILURE() << "no error";
  } catch (const SharedError& error) {
    EXPECT_EQ(error.code(), ExitCode::kUsage);
    EXPECT_THAT(error.what(), HasSubstr("seed: 1 -> 9"));
    EXPECT_THAT(error.what(),
                HasSubstr("give channel-fresh to start over, or another channel-trials"));
  }
}

TEST(ChannelFi, RankingFileKeepsWhatTheTrialsSaid) {
  ChannelRun run;
  run.job.channel_faults.sampling.cap = 30;
  const ChannelScores scores = run.scores();
  const std::string path = (run.folder / "ranking.h5").string();
  write_ranking(path, to_ranking(run.model.graph, kChannelFaults, scores));
  expect_same(from_ranking(run.model.graph, read_ranking(path), path), scores);
}

}  // namespace
}  // namespace sentinel
