/// Results and journals of schema 1: read, merged and never continued.
#include <gmock/gmock.h>

#include <cstring>

#include "sentinel/core/error.hpp"
#include "sentinel/store/differences.hpp"
#include "sentinel/store/merge.hpp"
#include "store_fixture.hpp"

namespace sentinel {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

std::string begun_earlier(const std::string& layout) {
  return "r.h5 was begun by an earlier version of sentinelnn (" + layout +
         "); finish it with that version, or give fresh to start over, or another output";
}

ResultInfo info_of(int schema) {
  ResultInfo info = sample_info();
  info.schema = schema;
  info.fingerprint = schema == 1 ? "f00d1" : "f00d2";
  info.fingerprint_parts["schema"] = std::to_string(schema);
  info.points = {{0, "T2", "binomial", 1e-5, 40, ""}};
  info.audit_rates = {0.25};
  return info;
}

/// A trial of flips, as schema 1 had them.
std::vector<TrialRecord> flips(std::uint64_t id) {
  std::vector<TrialRecord> trial = sample_trial(0, id);
  for (TrialRecord& record : trial) {
    TrialRow& row = record.row;
    row.faults_masked = row.words_wrong = row.words_flagged = row.n_faults = 0;
    row.faults_stored = 1;
    for (FaultRow& fault : record.faults) {
      fault.image = -1;
      fault.effect = 0;
      fault.length = 1;
    }
    row.n_faults = static_cast<std::uint32_t>(record.faults.size());
  }
  return trial;
}

void write_part(const std::string& path, std::uint64_t first, std::uint64_t end, int schema = 1) {
  ResultStore store = open_store(path, quick_options(), info_of(schema));
  for (std::uint64_t id = first; id < end; ++id) store.append(flips(id));
  store.finish(true);
}

/// Every row is there with its faults, and what schema 1 does not tell is read as documented.
void expect_rows(const std::string& path, std::uint64_t trials) {
  const ResultFile result = read_result(path);
  const auto faults = read_faults(path);
  EXPECT_EQ(result.info.schema, 1);
  ASSERT_EQ(result.trials.size(), 2 * trials);
  for (std::size_t i = 0; i < result.trials.size(); ++i) {
    TrialRecord wanted = flips(i / 2)[i % 2];
    wanted.row.words_wrong = wanted.row.words_flagged = kNotKnown;
    EXPECT_EQ(content(result.trials[i]), content(wanted.row)) << "row " << i;
    ASSERT_EQ(faults[i].size(), wanted.faults.size());
    for (std::size_t f = 0; f < faults[i].size(); ++f)
      EXPECT_TRUE(same_fault(faults[i][f], wanted.faults[f])) << "row " << i;
  }
  for (const ModelInfo& model : result.info.models)
    for (const TensorInfo& tensor : model.tensors) EXPECT_EQ(tensor.layout, "fp32");
  const PointInfo& point = result.info.points.at(0);
  EXPECT_EQ(point.effect + point.shape + point.target + point.selection, "flipbitweight");
}

/// Its tables have the columns that they had before schema 2, and no others.
void expect_columns(const std::string& path) {
  const auto lines = describe_hdf5(path);
  EXPECT_THAT(lines, Contains("/ @schema_version = 1"));
  EXPECT_THAT(
      lines,
      Contains(HasSubstr(
          "{point u32, id u64, model u32, stage u8, stratum i32, probability f64, block i32, "
          "n_faults u32, first_node i32, images u32, correct u32, top5 u32, masked u32, "
          "sdc_noncritical u32, sdc_critical u32, due u32, correct_argmax u32, session u32, "
          "audited u8, path u8, wall_us u32, rank u32}")));
  EXPECT_THAT(lines, Contains(HasSubstr("{kind u8, tensor u32, element u64, word_bits u8, bit u8, "
                                        "before u64, after u64}")));
  EXPECT_THAT(lines, Contains(HasSubstr("originals u64, word_bits u8}")));
  EXPECT_THAT(lines, Contains(HasSubstr("trials u64, models string[20]}")));
}

TEST(Schema1, IsReadWithWhatItDoesNotTell) {
  const TempDir dir;
  write_part(dir / "r.h5", 0, 40);
  expect_columns(dir / "r.h5");
  expect_rows(dir / "r.h5", 40);
}

TEST(Schema1, PartsMakeAResultOfSchema1) {
  const TempDir dir;
  const std::string a = dir / "a.h5", b = dir / "b.h5", all = dir / "all.h5";
  write_part(a, 0, 25);
  write_part(b, 20, 40);
  ResultMerge merged({b, a}, all);
  merged.each_trial([](const std::vector<TrialRow>&) {});
  const MergeReport report = merged.write({});
  EXPECT_TRUE(report.complete);
  EXPECT_EQ(report.duplicates, 10u);
  expect_columns(all);
  expect_rows(all, 40);
  EXPECT_EQ(read_result_outline(all).info.fingerprint, info_of(1).fingerprint);
}

TEST(Schema1, IsNotMergedWithSchema2) {
  const TempDir dir;
  const std::string old = dir / "old.h5", now = dir / "now.h5";
  write_part(old, 0, 20);
  write_part(now, 20, 40, 2);
  const auto complaint = [&](const std::vector<std::string>& inputs, const std::string& output) {
    return message_of<UserError>([&] { ResultMerge(inputs, output); });
  };
  EXPECT_THAT(complaint({old, now}, dir / "all.h5"),
              HasSubstr("now.h5 has schema 2 and " + old +
                        " has schema 1; only parts of the same schema can be merged"));
  EXPECT_THAT(complaint({now, old}, dir / "all.h5"), HasSubstr("old.h5 has schema 1 and "));
  EXPECT_THAT(complaint({now}, old), HasSubstr("old.h5 has schema 1 and "));
  EXPECT_THAT(files_in(dir.path()), ElementsAre("now.h5", "old.h5"));
}

TEST(Schema1, IsNotContinued) {
  const Quiet quiet;
  const TempDir dir;
  const std::string path = dir / "r.h5";
  write_part(path, 0, 20);
  const Bytes before = read_file(path);
  EXPECT_THAT(message_of<UserError>([&] { require_current_schema(path, "wait"); }),
              HasSubstr("finish it with that version, or wait"));
  EXPECT_NO_THROW(require_current_schema(dir / "none.h5", "wait"));
  EXPECT_THAT(message_of<UserError>([&] { open_store(path, quick_options(), info_of(2)); }),
              HasSubstr(begun_earlier("schema 1")));
  EXPECT_EQ(read_file(path), before);
  EXPECT_THAT(files_in(dir.path()), ElementsAre("r.h5"));
  ResultInfo other = info_of(2);
  other.fingerprint_parts["seed"] = "8";
  EXPECT_THAT(message_of<UserError>([&] { open_store(path, quick_options(), other); }),
              HasSubstr("belongs to another job (seed: 7 -> 8)"));
  StoreOptions fresh = quick_options();
  fresh.fresh = true;
  open_store(path, fresh, info_of(2)).finish(false);
  EXPECT_EQ(read_result(path).info.schema, 2);
  EXPECT_NO_THROW(require_current_schema(path, "wait"));
  EXPECT_TRUE(read_result(path).trials.empty());
}

/// The journal of a campaign that was killed, as if of that version.
Bytes journal_of(std::uint32_t version, const std::string& result) {
  {
    ResultStore store =
        open_store(result, quick_options(), info_of(version == 1 ? 1 : kSchemaVersion));
    store.append(flips(3));
  }
  Bytes journal = read_file(result + ".journal.0");
  std::memcpy(journal.data() + 8, &version, sizeof version);
  write_file_atomic(result + ".journal.0", journal);
  return journal;
}

/// Journals of another layout of rows, beside a publication or alone.
void expect_kept_and_not_read(std::uint32_t version, bool published) {
  const TempDir dir;
  const std::string path = dir / "r.h5";
  const Bytes journal = journal_of(version, path);
  if (!published) fs::remove(path);
  EXPECT_THAT(message_of<UserError>([&] { open_store(path, quick_options(), info_of(2)); }),
              HasSubstr(begun_earlier("journal version " + std::to_string(version))));
  EXPECT_EQ(read_file(path + ".journal.0"), journal);
  EXPECT_EQ(fs::exists(path), published);
  StoreOptions fresh = quick_options();
  fresh.fresh = true;
  ResultStore store = open_store(path, fresh, info_of(2));
  EXPECT_EQ(store.rows(), 0u);
  store.finish(true);
  EXPECT_THAT(files_in(dir.path()), ElementsAre("r.h5"));
}

TEST(Schema1, JournalsAreKeptAndNotRead) {
  const Quiet quiet;
  for (const bool published : {true, false}) expect_kept_and_not_read(1, published);
}

/// Version 2 had no outcomes of faults.
TEST(Schema2, EarlierJournalsAreKeptAndNotRead) {
  const Quiet quiet;
  for (const bool published : {true, false}) expect_kept_and_not_read(2, published);
}

TEST(Schema1, ALeftOverPublicationIsNotRemovedBeforeTheRefusal) {
  const Quiet quiet;
  const TempDir dir;
  const std::string path = dir / "r.h5";
  write_part(path, 0, 20);
  fs::copy(path, path + ".tmp.77");
  EXPECT_THAT(message_of<UserError>([&] { open_store(path, quick_options(), info_of(2)); }),
              HasSubstr(begun_earlier("schema 1")));
  EXPECT_THAT(files_in(dir.path()), ElementsAre("r.h5", "r.h5.tmp.77"));
}

TEST(Schema1, ColumnsOfSchema2MustBeInSchema2) {
  if (!have_h5py()) GTEST_SKIP() << "/usr/bin/python3 without h5py and pandas";
  const TempDir dir;
  write_part(dir / "r.h5", 0, 5);
  ASSERT_EQ(python("import sys, h5py, numpy\n"
                   "with h5py.File(sys.argv[1], 'r+') as f:\n"
                   "    f.attrs['schema_version'] = numpy.int32(2)\n",
                   dir / "r.h5"),
            "");
  EXPECT_THAT(message_of<DataError>([&] { read_result(dir / "r.h5"); }),
              HasSubstr("lacks the member layout"));
}

/// The fingerprint that a campaign of flips in all weights has now.
ResultInfo wanted_now() {
  ResultInfo info;
  info.fingerprint = "now";
  info.fingerprint_parts = {{"effect", "flip"},
                            {"layouts of model 0", "fp32"},
                            {"layouts of model 1", "fp32"},
                            {"lifetime", "-"},
                            {"list", "none"},
                            {"model 0 unprotected", "5ha"},
                            {"model 1 pruned+hardened", "5hb"},
                            {"schema", "2"},
                            {"seed", "7"},
                            {"selection", "all"},
                            {"shape", "bit"},
                            {"target", "weight"}};
  return info;
}

std::string complaint(const std::map<std::string, std::string>& parts, const ResultInfo& wanted) {
  try {
    check_fingerprint("r.h5", "old", parts, wanted, "give --fresh");
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(Schema1, PartsOfFingerprintsThatItDidNotHaveMeanWhatItWas) {
  const std::map<std::string, std::string> stored = {
      {"model 0 unprotected", "5ha"}, {"model 1 hardened", "5hb"}, {"schema", "1"}, {"seed", "7"}};
  EXPECT_EQ(complaint(stored, wanted_now()), "");
  // A version that says none of them yet.
  ResultInfo early = wanted_now();
  early.fingerprint_parts = stored;
  early.fingerprint_parts["schema"] = "2";
  EXPECT_EQ(complaint(stored, early), "");
  const auto with = [](const char* name, const char* value) {
    ResultInfo info = wanted_now();
    info.fingerprint_parts[name] = value;
    return info;
  };
  EXPECT_THAT(complaint(stored, with("target", "bias")), HasSubstr("target: weight -> bias"));
  EXPECT_THAT(complaint(stored, with("effect", "stuck-at-0")), HasSubstr("effect: flip -> stuck"));
  EXPECT_THAT(complaint(stored, with("layouts of model 1", "weight=int8")),
              HasSubstr("layouts of model 1: fp32 -> weight=int8"));
  EXPECT_THAT(complaint(stored, with("list", "c0de")), HasSubstr("list: none -> c0de"));
  EXPECT_THAT(complaint(stored, with("seed", "8")), HasSubstr("seed: 7 -> 8"));
  EXPECT_THAT(complaint(stored, with("something new", "x")), HasSubstr("something new: (none)"));
  EXPECT_THAT(complaint(stored, with("seed", "8")), Not(HasSubstr("target")));
  // In files of schema 2 nothing may be missing.
  auto later = stored;
  later["schema"] = "2";
  EXPECT_THAT(complaint(later, wanted_now()), HasSubstr("target: (none) -> weight"));
}

TEST(Schema1, WhatIsNotKnownIsNoDifference) {
  TrialRow stored = flips(5)[0].row, again = stored;
  stored.words_wrong = stored.words_flagged = kNotKnown;
  again.words_wrong = 2;
  EXPECT_TRUE(differences(stored, again).empty());
  stored.words_wrong = 1;
  ASSERT_EQ(differences(stored, again).size(), 1u);
  EXPECT_EQ(differences(stored, again)[0].column, "words_wrong");
  again = stored;
  again.faults_stored = 0;
  EXPECT_TRUE(differences(stored, again).empty());
}

}  // namespace
}  // namespace sentinel
