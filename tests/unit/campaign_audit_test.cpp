#include <gmock/gmock.h>

#include <csignal>
#include <map>

#include "campaign/chunk_result.hpp"
#include "campaign/ledger.hpp"
#include "campaign/trial_runner.hpp"
#include "sentinel/core/stop.hpp"
#include "sentinel/models/model.hpp"
#include "store_fixture.hpp"
#include "unit/tolerances.hpp"

namespace sentinel {
namespace {

using ::testing::ElementsAre;

AuditRow audit_of(const TrialRow& row, std::uint32_t mismatches = 0) {
  AuditRow audit{{}, row.point, row.id, row.model, mismatches, 1};
  audit.images = row.images;
  audit.correct = row.correct;
  audit.top5 = row.top5 + 1;
  audit.masked = row.images;
  audit.correct_argmax = 60;
  audit.deviation = 2.5e-6;
  return audit;
}

TEST(Messages, AuditsTravelWithTheirChunk) {
  ChunkResult result{{sample_record(0, 5, 0), sample_record(0, 6, 0)}, {}, 1.5};
  result.audits = {audit_of(result.records[1].row, 3)};
  const ChunkResult back = ChunkResult::decode(result.encode());
  ASSERT_EQ(back.records.size(), 2u);
  EXPECT_EQ(back.records[1].row.id, 6u);
  ASSERT_EQ(back.audits.size(), 1u);
  EXPECT_EQ(back.audits[0].id, 6u);
  EXPECT_EQ(back.audits[0].mismatches, 3u);
  EXPECT_EQ(back.audits[0].correct_argmax, 60u);
  EXPECT_EQ(back.audits[0].deviation, 2.5e-6);
  EXPECT_EQ(back.audit_seconds, 1.5);
}

// ---- the runner ----

/// Two networks, of which faults of the first carry over to the second; blocks of 8 of 16 images.
TrialRunner small_runner() {
  std::vector<NamedModel> models(2);
  models[0].name = "a";
  models[0].graph = initial_model("resnet20", 10, 3);
  models[1].name = "b";
  models[1].graph = models[0].graph.clone();
  EngineOptions options;
  options.block = 8;
  return TrialRunner(models, synthetic_dataset(Split::kTest, 16, 1), 8,
                     {{BinomialFaults{1e-5}, 100}, {ExactFaults{1}, 100}}, 11, options);
}

std::vector<TrialTask> tasks(std::initializer_list<std::uint64_t> ids) {
  std::vector<TrialTask> tasks;
  for (const std::uint64_t id : ids) tasks.push_back({id, {}});
  return tasks;
}

TEST(RunnerAudit, NothingIsAuditedUnlessAsked) {
  TrialRunner runner = small_runner();
  EXPECT_THAT(runner.audit_rates(), ElementsAre(0, 0));
  const ChunkResult result = runner.run(0, tasks({0, 1}));
  EXPECT_TRUE(result.audits.empty());
  for (const TrialRecord& record : result.records) EXPECT_EQ(record.row.audited, 0);
}

TEST(RunnerAudit, EveryModelOfAnAuditedTrialAgreesWithTheReference) {
  TrialRunner runner = small_runner();
  runner.set_audit_rates(1);
  const ChunkResult result = runner.run(0, tasks({4, 2}));
  ASSERT_EQ(result.records.size(), 4u);
  ASSERT_EQ(result.audits.size(), 4u);
  EXPECT_GT(result.audit_seconds, 0);
  for (std::size_t i = 0; i < 4; ++i) {
    const TrialRow& row = result.records[i].row;
    const AuditRow& audit = result.audits[i];
    EXPECT_EQ(row.audited, 1);
    EXPECT_EQ(audit.id, row.id);
    EXPECT_EQ(audit.model, row.model);
    EXPECT_EQ(audit.images, 8u);
    EXPECT_EQ(audit.mismatches, 0u);
    EXPECT_LT(audit.deviation, test::kFaultyFloats);
    EXPECT_EQ(audit.masked + audit.sdc_noncritical + audit.sdc_critical + audit.due, 8u);
    EXPECT_NEAR(audit.correct, row.correct, audit.near_ties);
    EXPECT_EQ(audit.due, row.due);
  }
}

TEST(RunnerAudit, WhichTrialsDoesNotDependOnTheirChunk) {
  TrialRunner runner = small_runner();
  runner.set_audit_rates(0.5);
  const auto audited = [&](std::initializer_list<std::uint64_t> ids) {
    std::set<std::uint64_t> found;
    for (const AuditRow& row : runner.run(1, tasks(ids)).audits) found.insert(row.id);
    return found;
  };
  const std::set<std::uint64_t> together = audited({0, 1, 2, 3, 4, 5, 6, 7});
  EXPECT_GT(together.size(), 0u);
  EXPECT_LT(together.size(), 8u);
  std::set<std::uint64_t> apart = audited({7, 5, 3});
  apart.merge(audited({0, 2}));
  apart.merge(audited({1}));
  apart.merge(audited({6, 4}));
  EXPECT_EQ(apart, together);
}

TEST(RunnerAudit, TheDefaultRateIsSmallAndFollowsTheFaults) {
  TrialRunner runner = small_runner();
  runner.set_audit_rates({});
  ASSERT_EQ(runner.audit_rates().size(), 2u);
  EXPECT_LT(runner.audit_rates()[0], 0.02);
  EXPECT_LT(runner.audit_rates()[1], runner.audit_rates()[0]);
  EXPECT_GT(runner.audit_rates()[1], 0);
}

// ---- the ledger ----

class LedgerAudit : public ::testing::Test {
 protected:
  LedgerAudit() {
    info_ = sample_info();
    info_.points = {{0, "T2", "binomial", 1e-5, 4, ""}};
    info_.audit_rates = {0.25};
    info_.plans = {{}};
    job_.output = dir_ / "r.h5";
    job_.publish_seconds = 3600;
  }

  /// Runs the trials with these audits' mismatches, by trial; `killed`: without an end.
  ExitCode run(const std::map<std::uint64_t, std::uint32_t>& mismatches, bool killed = false) {
    const Quiet quiet;
    const std::vector<NamedModel> models;
    const Dataset images = synthetic_dataset(Split::kTest, 3, 1);
    const TrialPlan plan{"inject", models, images, {{BinomialFaults{1e-5}, 4}}, {}};
    Ledger ledger(job_, plan, info_, {1, "node1", "{}"}, 1);
    for (const auto& [id, count] : mismatches) {
      ChunkResult result{sample_trial(0, id), {}, 0};
      for (TrialRecord& record : result.records) {
        record.row.audited = 1;
        result.audits.push_back(audit_of(record.row, record.row.model == 1 ? count : 0));
      }
      ledger.sink(result.encode());
    }
    return killed ? ExitCode::kStopped : ledger.finish();
  }

  TempDir dir_;
  ResultInfo info_;
  Job job_;
};

TEST_F(LedgerAudit, AgreementIsDone) {
  EXPECT_EQ(run({{0, 0}, {1, 0}, {2, 0}, {3, 0}}), ExitCode::kDone);
  EXPECT_EQ(read_result(job_.output).audit.size(), 8u);
}

TEST_F(LedgerAudit, AMismatchIsStoredAndThenGivesItsCode) {
  EXPECT_EQ(run({{0, 0}, {1, 0}, {2, 3}, {3, 0}}), ExitCode::kMismatch);
  const ResultFile result = read_result(job_.output);
  EXPECT_TRUE(result.complete);
  ASSERT_EQ(result.audit.size(), 8u);
  EXPECT_EQ(result.audit[5].id, 2u);
  EXPECT_EQ(result.audit[5].model, 1u);
  EXPECT_EQ(result.audit[5].mismatches, 3u);
  // Also of whoever looks again.
  EXPECT_EQ(run({}), ExitCode::kMismatch);
}

TEST_F(LedgerAudit, AMismatchOfAnEarlierIncarnationCounts) {
  run({{0, 0}, {1, 2}}, /*killed=*/true);
  EXPECT_EQ(run({{2, 0}, {3, 0}}), ExitCode::kMismatch);
  EXPECT_EQ(read_result(job_.output).audit.size(), 8u);
}

TEST_F(LedgerAudit, ACampaignThatWasStoppedMustGoOnFirst) {
  request_stop(SIGUSR1);
  EXPECT_EQ(run({{0, 1}}), ExitCode::kStopped);
  request_stop(0);
}

}  // namespace
}  // namespace sentinel
