#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <set>
#include <tuple>

#include "campaign/chunk_result.hpp"
#include "campaign/chunks.hpp"
#include "campaign/trial_runner.hpp"
#include "sentinel/campaign/campaign.hpp"
#include "sentinel/campaign/validation.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/core/file.hpp"
#include "sentinel/models/model.hpp"
#include "sentinel/results/estimates.hpp"
#include "sentinel/store/result_file.hpp"
#include "unit/tolerances.hpp"

namespace sentinel {
namespace {

using ::testing::HasSubstr;

// ---- planning
// ------------------------------------------------------------------------------------

/// A point with a fixed number of trials.
TrialSource fixed(std::uint64_t trials) {
  TrialSource source;
  source.ready = [trials] { return trials; };
  source.ended = [] { return true; };
  source.draw = [](std::uint64_t) { return TrialDraw(); };
  return source;
}

TEST(ChunkPlanner, HandsOutEveryMissingTrialOnce) {
  const auto has = [](std::uint32_t point, std::uint64_t id) { return (id + point) % 3 == 0; };
  std::uint64_t missing = 0;
  for (std::uint32_t p = 0; p < 2; ++p)
    for (std::uint64_t id = 0; id < 100; ++id) missing += has(p, id) ? 0 : 1;
  ChunkPlanner planner({fixed(100), fixed(100)}, missing, 3, has);
  std::set<std::pair<std::uint32_t, std::uint64_t>> seen;
  while (const auto chunk = planner.next()) {
    planner.measured(0, 0.01);
    for (const TrialTask& task : chunk->tasks) {
      EXPECT_FALSE(has(chunk->point, task.id));
      EXPECT_TRUE(seen.emplace(chunk->point, task.id).second) << "twice";
    }
  }
  EXPECT_EQ(seen.size(), missing);
}

TEST(ChunkPlanner, ChunksFollowTheMeasuredCost) {
  const auto none = [](std::uint32_t, std::uint64_t) { return false; };
  ChunkPlanner planner({fixed(1'000'000)}, 1'000'000, 2, none);
  EXPECT_EQ(planner.next()->tasks.size(), 1u);  // nothing is known yet
  planner.measured(0, 0.1);
  EXPECT_EQ(planner.next()->tasks.size(), 15u);
  planner.measured(0, 0.1);
  // Another point's trials are known to be ten times as long.
  std::vector<TrialSource> both = {fixed(20), fixed(1'000'000)};
  both[1].cost = 10;
  ChunkPlanner two(both, 1'000'000, 2, none);
  two.measured(0, 0.1);
  EXPECT_EQ(two.next()->tasks.size(), 15u);
  EXPECT_EQ(two.next()->tasks.size(), 5u);
  EXPECT_EQ(two.next()->tasks.size(), 1u);
  ChunkPlanner last({fixed(8)}, 8, 2, none);
  last.measured(0, 1e-3);
  EXPECT_EQ(last.next()->tasks.size(), 2u);  // the end is shared out
  std::vector<TrialSource> batches = {fixed(1'000)};
  batches[0].least = 64;
  ChunkPlanner slow(batches, 1'000, 2, none);
  EXPECT_EQ(slow.next()->tasks.size(), 64u);
  slow.measured(0, 10);
  EXPECT_EQ(slow.next()->tasks.size(), 64u);
}

TEST(ChunkPlanner, WaitsForTrialsThatAreNotPlannedYetAndDoesOthersMeanwhile) {
  std::uint64_t ready = 2;
  TrialSource rounds;
  rounds.ready = [&] { return ready; };
  rounds.ended = [&] { return ready == 4; };
  rounds.draw = [](std::uint64_t id) { return TrialDraw{0, static_cast<std::int32_t>(id), 0.5}; };
  ChunkPlanner planner({rounds, fixed(1)}, 5, 1,
                       [](std::uint32_t, std::uint64_t) { return false; });
  std::vector<std::pair<std::uint32_t, std::uint64_t>> seen;
  const auto drain = [&] {
    while (const auto chunk = planner.next())
      for (const TrialTask& task : chunk->tasks) {
        seen.emplace_back(chunk->point, task.id);
        EXPECT_EQ(task.draw.stratum, chunk->point == 0 ? static_cast<std::int32_t>(task.id) : -1);
      }
  };
  drain();
  EXPECT_THAT(seen,
              ::testing::ElementsAre(std::pair(0u, 0u), std::pair(0u, 1u), std::pair(1u, 0u)));
  ready = 4;
  drain();
  EXPECT_EQ(seen.size(), 5u);
}

TEST(Messages, ChunksAndRecordsSurviveTheWay) {
  const Chunk chunk = Chunk::decode(Chunk{7, {{1, {}}, {1ull << 40, {1, 3, 0.25}}}}.encode());
  EXPECT_EQ(chunk.point, 7u);
  ASSERT_EQ(chunk.tasks.size(), 2u);
  EXPECT_EQ(chunk.tasks[0].id, 1u);
  EXPECT_EQ(chunk.tasks[1].id, 1ull << 40);
  EXPECT_EQ(chunk.tasks[1].draw.stage, 1);
  EXPECT_EQ(chunk.tasks[1].draw.stratum, 3);
  EXPECT_EQ(chunk.tasks[1].draw.probability, 0.25);
  TrialRecord record;
  record.row.id = 5;
  record.row.correct = 99;
  record.faults.resize(2);
  record.faults[1].element = 1234;
  const auto back = ChunkResult::decode(ChunkResult{{record, {}}, {}, 0}.encode()).records;
  ASSERT_EQ(back.size(), 2u);
  EXPECT_EQ(back[0].row.correct, 99u);
  EXPECT_EQ(back[0].faults.at(1).element, 1234u);
  EXPECT_TRUE(back[1].faults.empty());
}

// ---- jobs
// ----------------------------------------------------------------------------------------

Job small_job() {
  Job job;
  job.ber = {1e-5};
  job.output = "r.h5";
  return job;
}

std::string complaint(const Job& job) {
  try {
    validate(job);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(Job, ValidIsSilentAndEachMistakeNamesItsOption) {
  EXPECT_EQ(complaint(small_job()), "");
  const auto with = [](auto change) {
    Job job = small_job();
    change(job);
    return complaint(job);
  };
  EXPECT_THAT(with([](Job& j) { j.output.clear(); }), HasSubstr("output result.h5 is missing"));
  EXPECT_THAT(with([](Job& j) { j.ber = {1e-5, 1.5}; }), HasSubstr("1.5"));
  EXPECT_THAT(with([](Job& j) { j.ber = {std::nan("")}; }), HasSubstr("nan"));
  EXPECT_THAT(with([](Job& j) { j.ber = {}; }), HasSubstr("ber is missing"));
  for (const double rate : {-0.1, 1.1, std::nan("")})
    EXPECT_THAT(with([&](Job& j) { j.audit = rate; }), HasSubstr("audit "));
  EXPECT_EQ(with([](Job& j) { j.audit = 1; }), "");
  const auto reference = [&](double rate) {
    return with([&](Job& j) { j.engine = EnginePath::kReference, j.audit = rate; });
  };
  EXPECT_THAT(reference(0.5), HasSubstr("nothing to compare"));
  EXPECT_EQ(reference(0), "");
  EXPECT_THAT(with([](Job& j) { j.fault_count = kSingleFault; }),
              HasSubstr("ber and single-bit (fault-count exact:1) contradict"));
  EXPECT_THAT(with([](Job& j) {
                j.fault_count = {FaultCount::Kind::kExact, 3};
              }),
              HasSubstr("ber and fault-count exact:3 contradict"));
  EXPECT_THAT(with([](Job& j) { j.trials = 0; }), HasSubstr("repeat 0"));
  EXPECT_THAT(with([](Job& j) { j.precision.half_width = 0.7; }), HasSubstr("half-width 0.7"));
  EXPECT_THAT(with([](Job& j) { j.precision.guaranteed = true; }), HasSubstr("guaranteed needs"));
  EXPECT_THAT(with([](Job& j) { j.images_per_trial = 0; }), HasSubstr("images-per-trial must"));
  EXPECT_THAT(with([](Job& j) { j.range = TrialRange{5, 5}; }), HasSubstr("holds no trial"));
  EXPECT_THAT(with([](Job& j) {
                j.trials = 10;
                j.range = TrialRange{5, 11};
              }),
              HasSubstr("repeat 10"));
  EXPECT_THAT(with([](Job& j) {
                j.precision.half_width = 0.01;
                j.range = TrialRange{0, 10};
              }),
              HasSubstr("trial-range needs"));
  EXPECT_THAT(with([](Job& j) { j.precision.confidence = 1; }), HasSubstr("confidence 1 lies"));
  EXPECT_THAT(with([](Job& j) {
                j.protect = true;
                j.protection.hardening.duplication.ratio = 0;
                j.protection.hardening.restricted = false;
              }),
              HasSubstr("with also"));
  for (double ratio : {1.0, -0.1, std::nan("")})
    EXPECT_THAT(with([&](Job& j) {
                  j.protect = true;
                  j.protection.hardening.duplication.ratio = ratio;
                }),
                HasSubstr("hardening-ratio "));
}

// ---- trials
// --------------------------------------------------------------------------------------

std::vector<NamedModel> small_models() {
  std::vector<NamedModel> models(2);
  models[0].name = "unprotected";
  models[0].graph = initial_model("resnet20", 10, 3);
  const Dataset images = synthetic_dataset(Split::kTrain, 32, 1);
  const ChannelScores scores = importance_method("l2-norm")->score({models[0].graph});
  models[1].name = "hardened";
  models[1].graph = harden(models[0].graph, scores, {}, images, Comm::local(), at::kCPU);
  return models;
}

TrialRunner small_runner(std::vector<Sampler> points) {
  EngineOptions options;
  options.block = 8;
  std::vector<CampaignPoint> all;
  for (Sampler& sampler : points) all.push_back({std::move(sampler), 100});
  return TrialRunner(small_models(), synthetic_dataset(Split::kTest, 16, 1), -1, all, 11, options);
}

TEST(TrialRunner, RefusesMoreNetworksThanHaveStreams) {
  const std::vector<NamedModel> models(kMostNetworks + 1);
  const std::vector<CampaignPoint> points = {{ExactFaults{1}, 1}};
  EXPECT_THROW(TrialRunner(models, synthetic_dataset(Split::kTest, 2, 1), -1, points, 1, {}),
               UserError);
}

TEST(TrialRunner, RecordsDependOnPointAndTrialOnly) {
  TrialRunner runner = small_runner({BinomialFaults{1e-6}, BinomialFaults{1e-5}});
  const auto row_of = [&](std::uint32_t point, std::uint64_t id) {
    std::vector<TrialRecord> records = runner.run(point, {{id, {}}}).records;
    for (TrialRecord& record : records) record.row.wall_us = 0;
    return records;
  };
  const auto first = row_of(1, 5);
  row_of(0, 9);
  row_of(1, 6);
  const auto again = row_of(1, 5);
  ASSERT_EQ(first.size(), 2u);
  for (std::size_t m = 0; m < 2; ++m) {
    EXPECT_EQ(first[m].row.correct, again[m].row.correct);
    EXPECT_EQ(first[m].row.masked, again[m].row.masked);
    EXPECT_EQ(first[m].row.due, again[m].row.due);
    ASSERT_EQ(first[m].faults.size(), again[m].faults.size());
    for (std::size_t f = 0; f < first[m].faults.size(); ++f)
      EXPECT_EQ(first[m].faults[f].after, again[m].faults[f].after);
  }
}

TEST(TrialRunner, HardenedModelGetsTheSameFlipsAndOwnOnesOnItsCopies) {
  TrialRunner runner = small_runner({BinomialFaults{2e-5}});
  std::size_t shared = 0, on_copies = 0;
  for (std::uint64_t id = 0; id < 20; ++id) {
    const Faults original = runner.faults(0, id, 0), hardened = runner.faults(0, id, 1);
    std::size_t found = 0;
    for (const FaultSite& site : hardened) {
      const FaultTensor& tensor = runner.engine(1).space().tensors().at(site.tensor);
      site.element < tensor.originals ? ++found : ++on_copies;
    }
    EXPECT_EQ(found, original.size());
    shared += found;
  }
  EXPECT_GT(shared, 0u);
  EXPECT_GT(on_copies, 0u);
}

TEST(TrialRunner, OtherFaultCountsAreIndependentBetweenModels) {
  TrialRunner runner = small_runner({ExactFaults{3}});
  EXPECT_EQ(runner.faults(0, 1, 0).size(), 3u);
  EXPECT_EQ(runner.faults(0, 1, 1).size(), 3u);
  EXPECT_FALSE(runner.faults(0, 1, 0) == runner.faults(0, 1, 1));
}

// ---- estimates
// -----------------------------------------------------------------------------------

std::vector<TrialRow> trial(std::uint64_t id, std::uint32_t correct,
                            std::uint32_t correct_hardened) {
  std::vector<TrialRow> rows(2);
  for (std::uint32_t m = 0; m < 2; ++m) {
    rows[m].id = id;
    rows[m].model = m;
    rows[m].images = 100;
  }
  rows[0].correct = correct;
  rows[1].correct = correct_hardened;
  return rows;
}

const EstimateRow& find(const std::vector<EstimateRow>& rows, int model,
                        const std::string& quantity) {
  for (const EstimateRow& row : rows)
    if (row.model == model && row.quantity == quantity) return row;
  throw Bug("no such estimate");
}

TEST(Estimates, MeansDifferencesAndPairing) {
  for (bool paired : {true, false}) {
    ResultInfo info;
    info.points.emplace_back();
    info.points[0].fault_model = paired ? "binomial" : "exact:7";
    info.models.resize(2);
    for (ModelInfo& model : info.models) model.images = model.correct = 100;
    PointEstimates builder(info, 0);
    // Nearly the same loss in both, so that the paired difference has little spread.
    for (std::uint64_t id = 0; id < 600; id += 3) {
      builder.add(trial(id, 50, 60));
      builder.add(trial(id + 1, 70, 81));
      builder.add(trial(id + 2, 30, 39));
      if (id == 0) {
        EXPECT_EQ(find(builder.look(), 1, "accuracy_difference").method,
                  paired ? "paired betting" : "two-sample betting");
      }
    }
    const auto rows = builder.look();
    EXPECT_NEAR(find(rows, 0, "accuracy").estimate, 0.5, test::kDoubles);
    EXPECT_NEAR(find(rows, 1, "accuracy").estimate, 0.6, test::kDoubles);
    const EstimateRow& difference = find(rows, 1, "accuracy_difference");
    EXPECT_NEAR(difference.estimate, 0.1, test::kDoubles);
    EXPECT_EQ(difference.against, 0);
    const double width = difference.upper - difference.lower;
    // 2 t s/sqrt(n) = 2 * 1.9639 * 0.0081718 / sqrt(600)
    EXPECT_TRUE(paired ? std::abs(width - 0.0013104) < 1e-6 : width > 0.03) << width;
    EXPECT_EQ(difference.trials, paired ? 600u : 1200u);
  }
}

// ---- a whole campaign
// ----------------------------------------------------------------------------

struct CampaignFiles {
  // CTest runs cases side by side: each has a folder of its own.
  std::filesystem::path folder = std::filesystem::path(::testing::TempDir()) /
                                 ("sentinel_campaign_" + std::to_string(::getpid()));
  CampaignFiles() {
    std::filesystem::remove_all(folder);
    std::filesystem::create_directories(folder);
    write_cifar_binary((folder / "data").string(), synthetic_dataset(Split::kTrain, 40, 1),
                       synthetic_dataset(Split::kTest, 20, 1));
    Graph graph = initial_model("resnet20", 10, 5);
    graph.dataset = "cifar10";
    write_file_atomic((folder / "net.pth").string(), serialize_model(graph, {}));
  }
  ~CampaignFiles() { std::filesystem::remove_all(folder); }
  Job job() const {
    Job job;
    job.selection = {"resnet20", "cifar10", (folder / "data").string(),
                     (folder / "net.pth").string()};
    job.protect = true;
    job.ber = {1e-6, 1e-5};
    job.trials = 6;
    job.images = 10;
    job.output = (folder / "result.h5").string();
    return job;
  }
};

TEST(Campaign, StoresEveryTrialOfEveryModelAndExtends) {
  const CampaignFiles files;
  Job job = files.job();
  EXPECT_EQ(run_campaign(Comm::local(), job), ExitCode::kDone);
  const ResultFile first = read_result(job.output);
  EXPECT_TRUE(first.complete);
  ASSERT_EQ(first.trials.size(), 2u * 2u * 6u);
  for (const TrialRow& row : first.trials)
    EXPECT_EQ(row.masked + row.sdc_noncritical + row.sdc_critical + row.due, row.images);
  job.trials = 8;
  EXPECT_EQ(run_campaign(Comm::local(), job), ExitCode::kDone);
  const ResultFile longer = read_result(job.output);
  ASSERT_EQ(longer.trials.size(), 2u * 2u * 8u);
  std::size_t compared = 0;
  for (const TrialRow& row : longer.trials)
    for (const TrialRow& old : first.trials)
      if (std::tie(row.point, row.id, row.model) == std::tie(old.point, old.id, old.model)) {
        EXPECT_EQ(row.session, old.session);
        EXPECT_EQ(row.correct, old.correct);
        ++compared;
      }
  EXPECT_EQ(compared, first.trials.size());
}

TEST(Campaign, AnotherJobOnTheSameResultIsRefusedNamingTheDifference) {
  const CampaignFiles files;
  Job job = files.job();
  job.protect = false;
  EXPECT_EQ(run_campaign(Comm::local(), job), ExitCode::kDone);
  job.seed = 2;
  try {
    run_campaign(Comm::local(), job);
    FAIL() << "no error";
  } catch (const SharedError& error) {
    EXPECT_EQ(error.code(), ExitCode::kUsage);
    EXPECT_THAT(error.what(), HasSubstr("seed"));
  }
  job.fresh = true;
  EXPECT_EQ(run_campaign(Comm::local(), job), ExitCode::kDone);
}

TEST(Bench, RowsDoNotDependOnTheRun) {
  Compute compute;
  compute.device = DeviceChoice::kCpu;
  const BenchReport first = run_bench(Comm::local(), compute, 2),
                    second = run_bench(Comm::local(), compute, 2);
  EXPECT_EQ(first.rows_sha256, second.rows_sha256);
  EXPECT_NE(first.rows_sha256, run_bench(Comm::local(), compute, 3).rows_sha256);
}

}  // namespace
}  // namespace sentinel
