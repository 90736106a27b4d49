#include "sentinel/store/differences.hpp"
#include "sentinel/store/merge.hpp"

#include <gmock/gmock.h>

#include <cmath>
#include <functional>
#include <numeric>

#include "sentinel/core/error.hpp"
#include "store_fixture.hpp"

namespace sentinel {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// One point of 40 trials, two models.
ResultInfo part_info(std::uint64_t planned = 40) {
  ResultInfo info = sample_info();
  info.points = {{0, "T2", "binomial", 1e-5, planned, ""}};
  info.audit_rates = {0.25};
  return info;
}

using Change = std::function<void(TrialRecord&)>;

/// A finished result that holds the trials first … end-1.
void write_part(const std::string& path, std::uint64_t first, std::uint64_t end,
                const ResultInfo& info = part_info(), const Change& change = {}) {
  ResultStore store = open_store(path, quick_options(), info);
  for (std::uint64_t id = first; id < end; ++id) {
    std::vector<TrialRecord> trial = sample_trial(0, id);
    for (TrialRecord& record : trial) {
      record.row.session = store.session();
      if (change) change(record);
    }
    store.append(trial);
  }
  store.finish(true);
}

MergeReport merge(const std::vector<std::string>& inputs, const std::string& output,
                  std::vector<std::uint64_t>* seen = nullptr) {
  ResultMerge merged(inputs, output);
  merged.each_trial([&](const std::vector<TrialRow>& trial) {
    EXPECT_EQ(trial.size(), 2u);
    if (seen) seen->push_back(trial.front().id);
  });
  return merged.write({{0, 0, -1, "accuracy", 0.5, 0.4, 0.6, 0.95, "t over trials", 40}});
}

TEST(Merge, DisjointPartsMakeTheWhole) {
  const TempDir dir;
  const std::string a = dir / "a.h5", b = dir / "b.h5", c = dir / "c.h5", all = dir / "all.h5";
  write_part(a, 0, 15);
  write_part(b, 15, 16);
  write_part(c, 16, 40);
  std::vector<std::uint64_t> seen;
  const MergeReport report = merge({c, a, b}, all, &seen);
  EXPECT_TRUE(report.complete);
  EXPECT_EQ(report.trials, 40u);
  EXPECT_EQ(report.planned, 40u);
  EXPECT_EQ(report.duplicates, 0u);
  std::vector<std::uint64_t> ascending(40);
  std::iota(ascending.begin(), ascending.end(), 0);
  EXPECT_EQ(seen, ascending);
  expect_trials(all, range(40));
  EXPECT_THAT(files_in(dir.path()), ElementsAre("a.h5", "all.h5", "b.h5", "c.h5"));
}

TEST(Merge, KeepsWhatIsKnownBeforeTheFirstTrial) {
  const TempDir dir;
  const std::string a = dir / "a.h5", b = dir / "b.h5", all = dir / "all.h5";
  write_part(a, 0, 5);
  write_part(b, 5, 9);
  EXPECT_FALSE(merge({a, b}, all).complete);
  const ResultFile first = read_result_outline(a), merged = read_result_outline(all);
  EXPECT_FALSE(merged.complete);
  EXPECT_EQ(merged.info.job, first.info.job);
  EXPECT_EQ(merged.info.command, first.info.command);
  EXPECT_EQ(merged.info.fingerprint_parts, first.info.fingerprint_parts);
  EXPECT_EQ(merged.info.provenance, first.info.provenance);
  EXPECT_EQ(merged.info.labels, first.info.labels);
  ASSERT_EQ(merged.info.models.size(), 2u);
  for (std::size_t m = 0; m < 2; ++m) {
    EXPECT_EQ(merged.info.models[m].golden_logits, part_info().models[m].golden_logits);
    EXPECT_EQ(merged.info.models[m].golden_predictions, part_info().models[m].golden_predictions);
  }
  ASSERT_EQ(merged.info.importance.size(), 2u);
  EXPECT_EQ(merged.info.importance[1].scores, first.info.importance[1].scores);
  ASSERT_EQ(merged.estimates.size(), 1u);
  EXPECT_EQ(merged.estimates[0].trials, 40u);
}

TEST(Merge, SessionsStayDistinct) {
  const TempDir dir;
  const std::string a = dir / "a.h5", b = dir / "b.h5", all = dir / "all.h5";
  write_part(a, 0, 3);
  write_part(a, 0, 6);  // resumed: a second session
  write_part(b, 6, 10);
  merge({b, a}, all);
  const ResultFile merged = read_result(all);
  ASSERT_EQ(merged.sessions.size(), 3u);
  for (std::uint32_t s = 0; s < 3; ++s) EXPECT_EQ(merged.sessions[s].number, s);
  EXPECT_EQ(merged.sessions[0].started, read_result(a).sessions[0].started);
  EXPECT_EQ(merged.sessions[2].started, read_result(b).sessions[0].started);
  for (const TrialRow& row : merged.trials)
    EXPECT_EQ(row.session, row.id < 3 ? 0u : row.id < 6 ? 1u : 2u) << row.id;
}

TEST(Merge, EqualRowsAreStoredOnce) {
  const TempDir dir;
  const std::string a = dir / "a.h5", b = dir / "b.h5", all = dir / "all.h5";
  write_part(a, 0, 25);
  // What may differ between two runs of a trial does.
  write_part(b, 20, 40, part_info(), [](TrialRecord& record) {
    record.row.wall_us = 1;
    record.row.rank = 9;
    record.row.path = 0;
    record.row.audited = 1;
  });
  const MergeReport report = merge({a, b}, all);
  EXPECT_EQ(report.duplicates, 2u * 5);
  EXPECT_EQ(report.trials, 40u);
  EXPECT_TRUE(report.complete);
  expect_trials(all, range(40));
  // Merging merged files again changes nothing, sessions included.
  merge({all, a, b}, dir / "again.h5");
  expect_trials(dir / "again.h5", range(40));
  EXPECT_EQ(read_result(dir / "again.h5").sessions.size(), 2u);
}

// Faults are drawn again where they are left out, so a part without them is no conflict.
TEST(Merge, FaultsMayBeLeftOutInOnePart) {
  const TempDir dir;
  const std::string a = dir / "a.h5", b = dir / "b.h5", c = dir / "c.h5", all = dir / "all.h5";
  const auto leave_out = [](TrialRecord& record) {
    record.row.faults_stored = 0;
    record.faults.clear();
  };
  write_part(a, 0, 25);
  write_part(b, 20, 40, part_info(), leave_out);
  EXPECT_EQ(merge({a, b}, all).duplicates, 2u * 5);
  const auto records = read_records(all, [](const TrialRow& row) { return row.id % 9 == 5; });
  ASSERT_EQ(records.size(), 2u * 4);  // 5, 14, 23, 32
  for (const TrialRecord& record : records) {
    EXPECT_EQ(record.row.n_faults, 2u);
    EXPECT_EQ(record.faults.size(), record.row.id < 25 ? 2u : 0u) << record.row.id;
  }
  write_part(c, 20, 40, part_info(), [&](TrialRecord& record) {
    leave_out(record);
    record.row.words_wrong += record.row.id == 22 ? 1 : 0;
  });
  EXPECT_THAT(message_of<DataError>([&] {
                merge({a, c}, dir / "other.h5");
              }),
              HasSubstr("trial 22 of point 0, model 0"));
}

// A trial audited in one part only is no conflict, and is audited in the whole.
TEST(Merge, AuditsOfAllPartsAreCarried) {
  const TempDir dir;
  const std::string a = dir / "a.h5", b = dir / "b.h5", all = dir / "all.h5";
  write_part(a, 0, 25);
  {
    ResultStore store = open_store(b, quick_options(), part_info());
    for (std::uint64_t id = 20; id < 40; ++id) {
      std::vector<TrialRecord> records = sample_trial(0, id);
      std::vector<AuditRow> audits;
      for (TrialRecord& record : records) {
        record.row.audited = id % 10 == 2;
        if (record.row.audited) audits.push_back(sample_audit(0, id, record.row.model));
      }
      store.append(records, audits);
    }
    store.finish(true);
  }
  const MergeReport report = merge({a, b}, all);
  EXPECT_EQ(report.duplicates, 2u * 5);
  const ResultFile merged = read_result(all);
  ASSERT_EQ(merged.audit.size(), 4u);
  EXPECT_EQ(content(merged.audit[1]), content(sample_audit(0, 22, 1)));
  EXPECT_EQ(content(merged.audit[2]), content(sample_audit(0, 32, 0)));
  for (const TrialRow& row : merged.trials)
    EXPECT_EQ(row.audited, row.id == 22 || row.id == 32 ? 1 : 0) << row.id;
}

TEST(Merge, AResultOfTheSameCampaignAtTheOutputIsKept) {
  const TempDir dir;
  const std::string a = dir / "a.h5", b = dir / "b.h5", all = dir / "all.h5";
  write_part(a, 0, 10);
  write_part(b, 10, 20);
  write_part(all, 20, 40);
  EXPECT_TRUE(merge({a, b}, all).complete);
  expect_trials(all, range(40));
}

TEST(Merge, PlannedIsWhatThePartThatPlansMostSays) {
  const TempDir dir;
  const std::string a = dir / "a.h5", b = dir / "b.h5", all = dir / "all.h5";
  write_part(a, 0, 10, part_info(10));
  write_part(b, 10, 30, part_info(31));
  const MergeReport report = merge({a, b}, all);
  EXPECT_EQ(report.planned, 31u);
  EXPECT_FALSE(report.complete);
  EXPECT_EQ(read_result(all).info.points[0].trials, 31u);
}

TEST(Merge, BoundsOfOneCampaignAreTheSame) {
  const TempDir dir;
  const std::string a = dir / "a.h5", b = dir / "b.h5", all = dir / "all.h5";
  ResultInfo bounded = part_info();
  bounded.bounds = {{0, 1, 1e-5}};
  write_part(a, 0, 15, bounded);
  write_part(b, 15, 40);
  for (const std::vector<std::string>& inputs : {std::vector{a, b}, std::vector{b, a}})
    EXPECT_THAT(message_of<DataError>([&] { merge(inputs, all); }),
                HasSubstr("has other rows in /design/bounds than " + inputs.front()));
}

TEST(Merge, BoundsMayDifferByRounding) {
  const TempDir dir;
  const std::string a = dir / "a.h5", b = dir / "b.h5";
  ResultInfo info = part_info();
  const double least = 1e-5, most = std::nextafter(1e-5, 1);
  info.bounds = {{0, 1, least}};
  write_part(a, 0, 15, info);
  info.bounds = {{0, 1, most}};
  write_part(b, 15, 40, info);
  for (const std::vector<std::string>& inputs : {std::vector{a, b}, std::vector{b, a}}) {
    const std::string all = dir / (inputs.front() == a ? "ab.h5" : "ba.h5");
    merge(inputs, all);
    EXPECT_EQ(bound_of(read_result(all).info, 0, 1), most);
  }
}

TEST(Merge, ManyInputsAndRowsCrossBlocks) {
  const TempDir dir;
  std::vector<std::string> parts;
  for (std::uint64_t p = 0; p < 7; ++p) {
    parts.push_back(dir / ("p" + std::to_string(p)));
    // Interleaved with the neighbour, and longer than a block.
    write_part(parts.back(), p == 0 ? 0 : p * 1000 - 300, (p + 1) * 1000, part_info(7000));
  }
  const MergeReport report = merge(parts, dir / "all.h5");
  EXPECT_TRUE(report.complete);
  EXPECT_EQ(report.duplicates, 2u * 6 * 300);
  expect_trials(dir / "all.h5", range(7000));
}

TEST(Merge, DisagreementNamesFileAndTrial) {
  const TempDir dir;
  const std::string a = dir / "a.h5", b = dir / "b.h5", all = dir / "all.h5";
  write_part(a, 0, 20);
  const std::vector<Change> changes = {
      [](TrialRecord& record) { record.row.correct -= record.row.id == 14 ? 1 : 0; },
      [](TrialRecord& record) {
        if (record.row.id == 14) record.faults[1].after ^= 1;
      }};
  for (const Change& change : changes) {
    fs::remove(b);
    write_part(b, 10, 40, part_info(), change);
    const std::string message = message_of<DataError>([&] { merge({a, b}, all); });
    EXPECT_THAT(message, HasSubstr(b));
    EXPECT_THAT(message, HasSubstr("trial 14 of point 0, model 0"));
    EXPECT_THAT(message, HasSubstr(a));
    EXPECT_FALSE(fs::exists(all));
  }
}

TEST(Merge, NetworksMayHaveOtherNames) {
  const TempDir dir;
  const std::string a = dir / "a.h5", b = dir / "b.h5";
  ResultInfo first = part_info(), second = part_info();
  first.fingerprint_parts["model 1 hardened"] = "5ha";
  second.fingerprint_parts["model 1 pruned+hardened"] = "5ha";
  second.fingerprint = "beef";
  second.models[1].name = "pruned+hardened";
  write_part(a, 0, 20, first);
  write_part(b, 20, 40, second);
  EXPECT_EQ(merge({a, b}, dir / "all.h5").trials, 40u);
  EXPECT_EQ(read_result_outline(dir / "all.h5").info.models[1].name, first.models[1].name);
}

TEST(Merge, OtherJobsAreRefusedNamingWhatDiffers) {
  const TempDir dir;
  const std::string a = dir / "a.h5", b = dir / "b.h5", c = dir / "c.h5", d = dir / "d.h5";
  write_part(a, 0, 5);
  ResultInfo other = part_info();
  other.fingerprint = "beef";
  other.fingerprint_parts["seed"] = "8";
  write_part(b, 5, 10, other);
  std::string message = message_of<UserError>([&] { merge({a, b}, dir / "all.h5"); });
  EXPECT_THAT(message, HasSubstr(b));
  EXPECT_THAT(message, HasSubstr("seed: 8 -> 7"));
  EXPECT_THAT(message_of<UserError>([&] { merge({a}, b); }), HasSubstr("seed: 8 -> 7"));
  expect_trials(b, {5, 6, 7, 8, 9});
  ResultInfo adaptive = part_info();
  adaptive.plans.resize(adaptive.points.size());
  adaptive.plans[0].sampling = "sequential";
  adaptive.strata = {{0, 0, "all bits", 1, 1}};
  write_part(c, 5, 10, adaptive, [](TrialRecord& record) { record.row.stratum = 0; });
  message = message_of<UserError>([&] { merge({a, c}, dir / "all.h5"); });
  EXPECT_THAT(message, HasSubstr(c));
  EXPECT_THAT(message, HasSubstr("sequential sampling"));
  ResultInfo sure = part_info();
  sure.confidence = 0.99;
  write_part(d, 5, 10, sure);
  EXPECT_THAT(message_of<UserError>([&] {
                merge({a, d}, dir / "all.h5");
              }),
              HasSubstr("another confidence than"));
}

TEST(Merge, TheOutputIsNeitherAnInputNorSomebodysFile) {
  const TempDir dir;
  const std::string a = dir / "a.h5", text = dir / "text.h5";
  write_part(a, 0, 5);
  write_file_atomic(text, std::string_view("not HDF5"));
  fs::create_hard_link(a, dir / "link.h5");
  for (const std::string& output : {a, dir / "./a.h5", dir / "link.h5"})
    EXPECT_THAT(message_of<UserError>([&] { merge({a}, output); }), HasSubstr(output));
  EXPECT_THAT(message_of<DataError>([&] { merge({a}, text); }), HasSubstr(text));
  EXPECT_EQ(read_file(text).size(), 8u);
  EXPECT_THROW(merge({a}, dir / "no/such/all.h5"), EnvironmentError);
  EXPECT_THROW(merge({}, dir / "all.h5"), UserError);
  EXPECT_THAT(message_of<DataError>([&] {
                merge({a, dir / "none.h5"}, dir / "all.h5");
              }),
              HasSubstr("none.h5"));
  EXPECT_THAT(message_of<DataError>([&] { merge({text}, dir / "all.h5"); }), HasSubstr(text));
  EXPECT_THAT(files_in(dir.path()), ElementsAre("a.h5", "link.h5", "text.h5"));
}

TEST(Merge, TruncatedOrDamagedIsAnErrorNeverACrash) {
  const TempDir dir;
  const std::string a = dir / "a.h5", b = dir / "b.h5";
  write_part(a, 0, 5);
  write_part(b, 5, 40);
  const Bytes whole = read_file(b);
  for (std::size_t size = 0; size < whole.size(); size += whole.size() / 20) {
    write_file_atomic(dir / "cut.h5", whole.data(), size);
    EXPECT_THROW(merge({a, dir / "cut.h5"}, dir / "all.h5"), DataError) << size;
  }
  for (std::size_t at = 0; at < whole.size(); at += 1999) {
    Bytes bad = whole;
    bad[at] ^= std::byte{0x5a};
    write_file_atomic(dir / "bad.h5", bad);
    try {  // a bit in unused space does no harm
      merge({a, dir / "bad.h5"}, dir / "all.h5");
    } catch (const DataError&) {
    } catch (const UserError&) {
    }
    fs::remove(dir / "all.h5");
  }
}

TEST(Outline, HasAllButTheTrials) {
  const TempDir dir;
  const std::string path = dir / "r.h5";
  write_part(path, 0, 40);
  const ResultFile outline = read_result_outline(path);
  EXPECT_TRUE(outline.trials.empty());
  EXPECT_TRUE(outline.complete);
  EXPECT_EQ(outline.info.models[0].golden_logits, part_info().models[0].golden_logits);
  EXPECT_EQ(outline.sessions.size(), 1u);
}

TEST(ReadRecords, OnlyThoseWantedWithTheirFaults) {
  const TempDir dir;
  const std::string path = dir / "r.h5";
  write_part(path, 0, 5000, part_info(5000));
  const auto records = read_records(path, [](const TrialRow& row) { return row.id % 1001 == 1; });
  ASSERT_EQ(records.size(), 2u * 5);
  for (std::size_t i = 0; i < records.size(); ++i) {
    const TrialRecord wanted =
        sample_record(0, 1001 * (i / 2) + 1, static_cast<std::uint32_t>(i % 2));
    EXPECT_TRUE(differences(records[i].row, wanted.row).empty());
    EXPECT_TRUE(differences(records[i].faults, wanted.faults).empty());
  }
}

TEST(Differences, NameColumnAndValues) {
  const TrialRecord a = sample_record(0, 5, 0);
  TrialRecord b = a;
  b.row.wall_us += 1, b.row.rank += 1, b.row.session += 1, b.row.path = 0, b.row.audited = 1;
  EXPECT_TRUE(differences(a.row, b.row).empty()) << "what may differ is compared";
  b.row.correct = 7;
  b.row.probability = 0.25;
  const auto rows = differences(a.row, b.row);
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].column + rows[0].first + rows[0].second, "probability10.25");
  EXPECT_EQ(rows[1].column + rows[1].second, "correct7");
  ASSERT_EQ(a.faults.size(), 2u);
  b.faults[1].after ^= 0x10;
  const auto faults = differences(a.faults, b.faults);
  ASSERT_EQ(faults.size(), 1u);
  EXPECT_EQ(faults[0].column, "fault 1 after");
  EXPECT_EQ(faults[0].first, "0x3f800020");
  EXPECT_EQ(faults[0].second, "0x3f800030");
  b.faults.pop_back();
  ASSERT_EQ(differences(a.faults, b.faults).size(), 1u);
  EXPECT_EQ(differences(a.faults, b.faults)[0].column, "faults");
}

}  // namespace
}  // namespace sentinel
