#include "store/checks.hpp"

#include <gmock/gmock.h>

#include <cmath>
#include <functional>
#include <limits>

#include "sentinel/core/error.hpp"
#include "store/journal.hpp"
#include "store_fixture.hpp"

namespace sentinel {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

template <class T>
struct Damage {
  std::function<void(T&)> change;
  const char* message;
};

/// A campaign with everything that can be checked.
ResultInfo full_info() {
  ResultInfo info = sample_info();
  info.points[0].models = "unprotected,hardened";
  info.plans = {{0, "sequential", "", 0.01}, {1}};
  info.pairing = {{0, 1, 0.5}};
  info.strata = {{0, 0, "sign", 0.25, 1}, {0, 1, "rest", 0.75, 1}};
  info.shares = {{0, 1, 0, 0.5}, {0, 1, 1, 0.5}};
  info.bounds = {{1, 0, 1e-5}, {1, 1, 2e-5}};
  return info;
}

TrialRecord full_record() {
  TrialRecord record = sample_record(0, 2, 1);
  record.row.stratum = 1;
  return record;
}

const std::vector<Damage<ResultInfo>> kBadInfo = {
    {[](ResultInfo& i) { i.models.clear(); }, "/models is empty"},
    {[](ResultInfo& i) { i.models[1].images = 0; }, "/models, index 1: images is 0"},
    {[](ResultInfo& i) { i.models[1].correct = 257; }, "correct is 257, not from 0 to 256"},
    {[](ResultInfo& i) { i.models[1].top5 = -1; }, "top5 is -1"},
    {[](ResultInfo& i) { i.models[0].classes = 0; }, "classes is 0"},
    {[](ResultInfo& i) { i.models[0].parameters = 0; }, "parameters is 0"},
    {[](ResultInfo& i) { i.models[0].mean = {0.5}; }, "of different lengths"},
    {[](ResultInfo& i) { i.models[0].mean = i.models[0].std = {kNaN}; }, "mean is nan"},
    {[](ResultInfo& i) { i.models[0].tensors[1].originals = 1U << 30; },
     "/models/unprotected/tensors, row 1: originals"},
    {[](ResultInfo& i) { i.models[0].tensors[0].word_bits = 65; }, "word_bits is 65"},
    {[](ResultInfo& i) { i.models[0].nodes[3].macs = -1; }, "nodes, row 3: macs is -1"},
    {[](ResultInfo& i) { i.models[1].golden_predictions[7] = 2; },
     "/golden/hardened/predictions, row 7: class is 2, not from -1 to 1"},
    {[](ResultInfo& i) { i.labels[9] = -1; }, "/golden/labels, row 9: class is -1"},
    {[](ResultInfo& i) { i.labels.pop_back(), i.image_blocks.pop_back(); },
     "/golden/labels has 255 rows, not 256"},
    {[](ResultInfo& i) { i.points.clear(); }, "/design/plans has 2 rows, not 0"},
    {[](ResultInfo& i) { i.points[1].id = 7; }, "/points, row 1: id is 7, not 1"},
    {[](ResultInfo& i) { i.points[1].ber = INFINITY; }, "ber is inf"},
    {[](ResultInfo& i) { i.points[1].ber = -0.0312; }, "ber is -0.0312, not from 0 to 1"},
    {[](ResultInfo& i) { i.points[0].models = "another"; }, "models names 'another'"},
    {[](ResultInfo& i) { i.points[0].trials = UINT64_MAX; }, "trials is 18446744073709551615"},
    {[](ResultInfo& i) { i.plans[1].point = 0; }, "/design/plans, row 1: point is 0, not 1"},
    {[](ResultInfo& i) { i.plans[1].sampling = "by taste"; }, "sampling 'by taste' is unknown"},
    {[](ResultInfo& i) { i.plans[1].half_width = kNaN; }, "half_width is nan"},
    {[](ResultInfo& i) { i.plans[1].first = 51; }, "first is 51, not from 0 to 50"},
    {[](ResultInfo& i) { i.models[1].bits_per_weight = kNaN; }, "bits_per_weight is nan"},
    {[](ResultInfo& i) { i.models[1].stored_bits = -1; }, "stored_bits is -1"},
    {[](ResultInfo& i) { i.pairing[0].point = 2; }, "/design/pairing, row 0: point is 2"},
    {[](ResultInfo& i) { i.pairing[0].model = 2; }, "/design/pairing, row 0: model is 2"},
    {[](ResultInfo& i) { i.pairing[0].shared = 1.5; }, "shared is 1.5, not from 0 to 1"},
    {[](ResultInfo& i) { i.plans.pop_back(); }, "/design/plans has 1 rows, not 2"},
    {[](ResultInfo& i) { i.strata[1].point = 5; }, "/design/strata, row 1: point is 5"},
    {[](ResultInfo& i) { i.strata[1].stratum = 2; }, "stratum is 2, not 1"},
    {[](ResultInfo& i) { i.strata[1].weight = 0.5; }, "the sum of weights is 0.75"},
    {[](ResultInfo& i) { i.strata[1].weight = kNaN; }, "weight is nan"},
    {[](ResultInfo& i) { i.strata[1].cost = -1; }, "cost is -1, not from 0"},
    {[](ResultInfo& i) { i.strata[1].misread = kNaN; }, "misread is nan"},
    {[](ResultInfo& i) { i.strata[1].misread = -0.5; }, "misread is -0.5"},
    {[](ResultInfo& i) { i.strata[0].cost = 0; },
     "/design/strata, row 0: stratum is 0, not from 1"},
    {[](ResultInfo& i) { i.shares[0].point = 2; }, "/design/shares, row 0: point is 2"},
    {[](ResultInfo& i) { i.shares[1].model = 0; }, "/design/shares, row 1: model is 0"},
    {[](ResultInfo& i) { i.shares[1].stratum = 0; }, "stratum is 0, not 1"},
    {[](ResultInfo& i) { i.shares[1].weight = 0.25; }, "the sum of weights is 0.75"},
    {[](ResultInfo& i) { i.shares.pop_back(); }, "the number of strata is 1, not 2"},
    {[](ResultInfo& i) { i.bounds[0].point = 2; }, "/design/bounds, row 0: point is 2"},
    {[](ResultInfo& i) { i.bounds[1].model = 2; }, "/design/bounds, row 1: model is 2"},
    {[](ResultInfo& i) { i.bounds[1].model = 0; }, "row 1: point and model are there twice"},
    {[](ResultInfo& i) { i.bounds[0].bound = kNaN; }, "bound is nan"},
    {[](ResultInfo& i) { i.strata.clear(); }, "point 0: the sum of weights is 0"},
    {[](ResultInfo& i) { i.confidence = 1; }, "confidence is 1, not between 0 and 1"},
    {[](ResultInfo& i) { i.images_per_trial = 257; }, "images_per_trial is 257"},
    {[](ResultInfo& i) { i.images_per_trial = 0; }, "images_per_trial is 0"},
    {[](ResultInfo& i) { i.audit_rates[0] = 2; }, "/design/audit_rates, row 0: rate is 2"},
    {[](ResultInfo& i) { i.image_blocks[0] = 256; }, "/design/blocks, row 0: block is 256"},
    {[](ResultInfo& i) { i.image_blocks[0] = 255; }, "block 4: no image is in it"},
    {[](ResultInfo& i) { i.importance[0].order[0] = 2; }, "layer conv1: order is no order"},
    {[](ResultInfo& i) { i.importance[0].scores[0] = kNaN; }, "a score is no number"},
};

TEST(Checks, InfoThatCannotBeIsRefused) {
  EXPECT_NO_THROW(store::check_info("r.h5", full_info()));
  for (const auto& damage : kBadInfo) {
    ResultInfo info = full_info();
    damage.change(info);
    EXPECT_THAT(message_of<DataError>([&] { store::check_info("r.h5", info); }),
                AllOf(HasSubstr("r.h5: "), HasSubstr(damage.message)));
  }
}

const std::vector<Damage<TrialRecord>> kBadRecords = {
    {[](TrialRecord& r) { r.row.point = 2; }, "point is 2, and there are 2, from 0 on"},
    {[](TrialRecord& r) { r.row.id = UINT64_MAX; }, "id is 18446744073709551615"},
    {[](TrialRecord& r) { r.row.model = UINT32_MAX; }, "model is 4294967295"},
    {[](TrialRecord& r) { r.row.stage = 2; }, "stage is 2, not from 0 to 1"},
    {[](TrialRecord& r) { r.row.stratum = -1; }, "stratum is -1, not from 0 to 1"},
    {[](TrialRecord& r) { r.row.stratum = 2; }, "stratum is 2"},
    {[](TrialRecord& r) { r.row.probability = 0; }, "probability is 0"},
    {[](TrialRecord& r) { r.row.probability = kNaN; }, "probability is nan"},
    {[](TrialRecord& r) { r.row.block = 4; }, "block is 4, not from 0 to 3"},
    {[](TrialRecord& r) { r.row.block = -1; }, "block is -1"},
    {[](TrialRecord& r) { r.row.first_node = 7; }, "first_node is 7"},
    {[](TrialRecord& r) { r.row.images = 0; }, "images is 0, not 64"},
    {[](TrialRecord& r) { r.row.masked += 1; }, "the sum of masked"},
    {[](TrialRecord& r) { r.row.masked = UINT32_MAX; }, "the sum of masked"},
    {[](TrialRecord& r) { r.row.top5 = 55; }, "top5 is 55, not from 0 to 54"},
    {[](TrialRecord& r) { r.row.correct = 53; }, "correct is 53, not from 0 to 52"},
    {[](TrialRecord& r) { r.row.correct_argmax = 65; }, "correct_argmax is 65"},
    {[](TrialRecord& r) { r.row.session = 9; }, "session is 9, which is not there"},
    {[](TrialRecord& r) { r.row.audited = 2; }, "audited is 2"},
    {[](TrialRecord& r) { r.row.path = 2; }, "path is 2"},
    {[](TrialRecord& r) { r.row.faults_masked = 3; }, "faults_masked is 3, not from 0 to 2"},
    {[](TrialRecord& r) { r.row.faults_stored = 2; }, "faults_stored is 2, not from 0 to 1"},
    {[](TrialRecord& r) { r.faults[1].kind = 1; }, "kind is 1, not 0"},
    {[](TrialRecord& r) { r.faults[1].tensor = 2; }, "tensor is 2"},
    {[](TrialRecord& r) { r.faults[1].element = 4000000; }, "element is 4000000"},
    {[](TrialRecord& r) { r.faults[1].word_bits = 33; }, "word_bits is 33, not 32"},
    {[](TrialRecord& r) { r.faults[1].bit = 32; }, "bit is 32"},
    {[](TrialRecord& r) { r.faults[1].image = -2; }, "image is -2, not from -1 to 255"},
    {[](TrialRecord& r) { r.faults[1].image = 256; }, "image is 256"},
    {[](TrialRecord& r) { r.faults[1].effect = 5; }, "effect is 5, not from 0 to 4"},
    {[](TrialRecord& r) { r.faults[1].length = 0; }, "length is 0"},
    {[](TrialRecord& r) { r.faults[1].length = 31; }, "length is 31, not from 1 to 30"},
};

void check(const store::RowChecks& checks, const TrialRecord& record) {
  const store::Place at{"r.h5", "/trials, row", 17};
  checks.check(at, record.row);
  for (const FaultRow& fault : record.faults) checks.check(at, record.row, fault);
}

TEST(Checks, RowsThatCannotBeAreRefused) {
  const ResultInfo info = full_info();
  const store::RowChecks checks(info, {3, 0});
  EXPECT_NO_THROW(check(checks, full_record()));
  for (const auto& damage : kBadRecords) {
    TrialRecord record = full_record();
    damage.change(record);
    EXPECT_THAT(message_of<DataError>([&] { check(checks, record); }),
                AllOf(HasSubstr("r.h5: /trials, row 17: "), HasSubstr(damage.message)));
  }
}

TEST(Checks, AuditsThatCannotBeAreRefused) {
  const ResultInfo info = full_info();
  const store::RowChecks checks(info, {0});
  const std::vector<Damage<AuditRow>> damages = {
      {[](AuditRow& r) { r.point = 2; }, "point is 2"},
      {[](AuditRow& r) { r.model = 2; }, "model is 2"},
      {[](AuditRow& r) { r.images = 0; }, "images is 0"},
      {[](AuditRow& r) { r.mismatches = 65; }, "mismatches is 65"},
      {[](AuditRow& r) { r.due += 1; }, "the sum of masked"},
      {[](AuditRow& r) { r.top5 = 65; }, "top5 is 65"},
      {[](AuditRow& r) { r.deviation = kNaN; }, "deviation is nan"}};
  EXPECT_NO_THROW(checks.check({"r.h5", "/audit, row", 0}, sample_audit(0, 2, 1)));
  for (const auto& damage : damages) {
    AuditRow row = sample_audit(0, 2, 1);
    damage.change(row);
    EXPECT_THAT(message_of<DataError>([&] {
                  checks.check({"r.h5", "/audit, row", 0}, row);
                }),
                HasSubstr(damage.message));
  }
}

TEST(Checks, FindingsThatCannotBeAreRefused) {
  const ResultInfo info = full_info();
  Findings good;
  good.estimates = {{1, 1, 0, "due", 0.5, 0.4, 0.6, 0.95, "betting", 3}};
  good.rounds = {{0, 0, 0, 0, 32, 1, 0.5, 0}};
  good.centres = {{0, 1, 1, 0.25, 0.25, 0.25, 0.25}};
  EXPECT_NO_THROW(store::check_findings("r.h5", info, good));
  Findings listed = good;
  listed.estimates[0].method = kListed;
  listed.estimates[0].lower = listed.estimates[0].upper = kNaN;
  EXPECT_NO_THROW(store::check_findings("r.h5", info, listed));
  listed.estimates[0].upper = 0.6;
  EXPECT_THROW(store::check_findings("r.h5", info, listed), DataError);
  const std::vector<Damage<Findings>> damages = {
      {[](Findings& f) { f.estimates[0].point = 2; }, "/estimates, row 0: point is 2"},
      {[](Findings& f) { f.estimates[0].model = -1; }, "model is -1"},
      {[](Findings& f) {
         f.estimates[0].point = 0;
         f.estimates[0].method = "bound: P(any word read wrongly)";
       },
       "the method is a bound, which /design/bounds does not have"},
      {[](Findings& f) { f.estimates[0].against = 2; }, "against is 2"},
      {[](Findings& f) { f.estimates[0].estimate = -0.0312; }, "estimate is -0.0312"},
      {[](Findings& f) { f.estimates[0].estimate = INFINITY; }, "estimate is inf"},
      {[](Findings& f) { f.estimates[0].lower = kNaN; }, "lower is nan"},
      {[](Findings& f) { f.estimates[0].upper = 0.3; }, "upper is 0.3"},
      {[](Findings& f) { f.estimates[0].confidence = 0; }, "confidence is 0"},
      {[](Findings& f) { f.estimates[0].trials = 0; }, "trials is 0"},
      {[](Findings& f) { f.estimates[0].stratum = 0; }, "stratum is 0, not -1"},
      {[](Findings& f) { f.estimates[0].point = f.estimates[0].stratum = 0; },
       "stratum is 0, not -1"},  // of a sequential plan
      {[](Findings& f) { f.estimates[0].stratum = -2; }, "stratum is -2"},
      {[](Findings& f) { f.rounds[0].point = 2; }, "/design/rounds, row 0: point is 2"},
      {[](Findings& f) { f.rounds[0].trials = UINT64_MAX; }, "trials is 18446744073709551615"},
      {[](Findings& f) { f.rounds[0].probability = 2; }, "probability is 2"},
      {[](Findings& f) { f.centres[0].model = 7; }, "/design/centres, row 0: model is 7"},
      {[](Findings& f) { f.centres[0].due = kNaN; }, "a share is nan"}};
  for (const auto& damage : damages) {
    Findings findings = good;
    damage.change(findings);
    EXPECT_THAT(message_of<DataError>([&] { store::check_findings("r.h5", info, findings); }),
                HasSubstr(damage.message));
  }
}

TEST(Checks, SessionsAtTimesThatCannotBeAreRefused) {
  const SessionRow good{0, 1.7e9, 1.7e9, 2, "node1", 5, "{}"};
  EXPECT_NO_THROW(store::check_sessions("r.h5", {good}));
  for (const double time : {kNaN, HUGE_VAL, -HUGE_VAL, 1e300, -3e9, 253402300800.0}) {
    SessionRow started = good, ended = good;
    started.started = ended.ended = time;
    for (const SessionRow& session : {started, ended})
      EXPECT_THAT(message_of<DataError>([&] { store::check_sessions("r.h5", {session}); }),
                  HasSubstr("no time in seconds since 1970"));
  }
  EXPECT_THAT(message_of<DataError>([&] {
                store::check_sessions("r.h5", {good, good});
              }),
              HasSubstr("number 0 is there twice"));
}

SessionRow session_of(std::uint32_t number, double time, std::uint32_t ranks = 1) {
  return {number, time, time, ranks, "node1", 0, "{}"};
}

/// A journal as an earlier incarnation would have left it, its checksums right.
void write_journal(const std::string& result, const TrialRecord& record, double time = 1.7e9,
                   const std::vector<AuditRow>& audits = {}) {
  const ResultInfo info = full_info();
  store::JournalWriter writer(result + ".journal.0",
                              {info.fingerprint, info.fingerprint_parts, session_of(0, 1.7e9)});
  store::Frame frame;
  frame.begin(store::Frame::Kind::kAudits, time);
  for (const AuditRow& row : audits) frame.add(row);
  if (!audits.empty()) writer.append(frame.seal());
  frame.begin(store::Frame::Kind::kRecords, time);
  frame.add(record.row, record.faults);
  writer.append(frame.seal());
}

void resume(const std::string& result) {
  open_store(result, quick_options(), full_info());
}

TEST(Checks, JournalsOfAbsurdContentAreRefused) {
  const Quiet quiet;
  const TempDir good;
  write_journal(good / "r.h5", full_record(), 1.7e9, {sample_audit(0, 2, 1)});
  EXPECT_NO_THROW(resume(good / "r.h5"));
  for (const auto& damage : kBadRecords) {
    const TempDir dir;
    TrialRecord record = full_record();
    damage.change(record);
    write_journal(dir / "r.h5", record);
    EXPECT_THAT(message_of<DataError>([&] { resume(dir / "r.h5"); }),
                AllOf(HasSubstr("r.h5.journal.0: the record at byte "), HasSubstr(damage.message)));
  }
}

TEST(Checks, TrialsBeyondThePlanOfTheirSessionAreRefused) {
  const Quiet quiet;
  ResultInfo info = full_info();
  info.points[0].trials = 400;
  info.plans[0].first = 2;
  const TrialRecord good = full_record();
  for (const std::uint64_t id :
       {std::uint64_t{1}, std::uint64_t{400}, std::uint64_t{UINT32_MAX}, std::uint64_t{1} << 40}) {
    const TempDir dir;
    TrialRecord bad = good;
    bad.row.id = id;
    store::Frame frame;
    frame.begin(store::Frame::Kind::kRecords, 1.7e9);
    frame.add(bad.row, bad.faults);
    store::JournalWriter(dir / "r.h5.journal.0", {info.fingerprint, info.fingerprint_parts,
                                                  session_of(0, 1.7e9), store::planned_ids(info)})
        .append(frame.seal());
    EXPECT_THAT(message_of<DataError>([&] { open_store(dir / "r.h5", quick_options(), info); }),
                AllOf(HasSubstr("the record at byte "),
                      HasSubstr("id is " + std::to_string(id) +
                                ", and the plan of point 0 has the trials 2 to 400")));
  }
  // A sequential plan that is decided has fewer trials than were run.
  info.plans[0].reached = 1;
  EXPECT_GT(store::planned_ids(info)[0].end, 400u);
  store::RowChecks checks(info, {0, 1});
  checks.set_plan(1, {{2, 400}, {0, 50}});
  TrialRecord earlier = good;
  earlier.row.id = 6000;  // of a session before the campaign was shortened
  EXPECT_NO_THROW(check(checks, earlier));
  earlier.row.session = 1;
  EXPECT_THROW(check(checks, earlier), DataError);
}

TEST(Checks, JournalsOfAbsurdTimesCountsAndAuditsAreRefused) {
  const Quiet quiet;
  for (const double time : {kNaN, 1e300, -3e9}) {
    const TempDir dir;
    write_journal(dir / "r.h5", full_record(), time);
    EXPECT_THAT(message_of<DataError>([&] { resume(dir / "r.h5"); }), HasSubstr("no time"));
  }
  const TempDir faults, audits;
  TrialRecord more = full_record();
  more.row.n_faults = 77;
  write_journal(faults / "r.h5", more);
  EXPECT_THAT(message_of<DataError>([&] { resume(faults / "r.h5"); }),
              HasSubstr("another number of faults"));
  const TempDir left_out;
  more = full_record();
  more.row.faults_stored = 0;
  write_journal(left_out / "r.h5", more);
  EXPECT_THAT(message_of<DataError>([&] { resume(left_out / "r.h5"); }),
              HasSubstr("another number of faults"));
  write_journal(audits / "r.h5", full_record(), 1.7e9, {sample_audit(0, 2, 9)});
  EXPECT_THAT(message_of<DataError>([&] { resume(audits / "r.h5"); }),
              HasSubstr("the audit at byte"));
}

TEST(Checks, JournalHeadersOfAbsurdContentAreRefused) {
  const Quiet quiet;
  const ResultInfo info = full_info();
  const auto journal = [&](const SessionRow& session) {
    const TempDir dir;
    store::JournalWriter(dir / "r.h5.journal.0",
                         {info.fingerprint, info.fingerprint_parts, session});
    return message_of<DataError>([&] { resume(dir / "r.h5"); });
  };
  EXPECT_THAT(journal(session_of(0, 1e300)), HasSubstr("no time in seconds since 1970"));
  EXPECT_THAT(journal(session_of(0, kNaN)), HasSubstr("header of the journal"));
  EXPECT_THAT(journal(session_of(UINT32_MAX, 1)), HasSubstr("number is 4294967295"));
  EXPECT_THAT(journal(session_of(0, 1, 0)), HasSubstr("ranks is 0"));
}

}  // namespace
}  // namespace sentinel
