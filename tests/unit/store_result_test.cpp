#include <cstring>
#include <string_view>

#include <gmock/gmock.h>

#include "sentinel/core/error.hpp"
#include "store/result_reader.hpp"
#include "store_fixture.hpp"

namespace sentinel {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(ResultFile, HoldsWhatWasGiven) {
  const TempDir dir;
  const std::string path = dir / "r.h5";
  ResultInfo info = sample_info();
  info.strata = {{0, 0, "all bits", 1, 1}};
  info.pairing = {{0, 1, 0.75}};
  info.models[1].stored_bits = 4000;
  info.models[1].bits_per_weight = 8.5;
  const auto drawn = [](std::uint64_t id) {
    std::vector<TrialRecord> trial = sample_trial(0, id);
    for (TrialRecord& record : trial) record.row.stratum = 0;
    return trial;
  };
  {
    ResultStore store = open_store(path, quick_options(), info);
    store.append(drawn(4), {sample_audit(0, 4, 1)});
    store.append(drawn(2), {sample_audit(0, 2, 0)});
    store.append(drawn(3000));
    store.append({sample_record(1, 1, 1)});
    Findings findings;
    findings.estimates = {{0, 0, -1, "accuracy", 0.5, 0.4, 0.6, 0.95, "t over trials", 3},
                          {0, 1, 0, "accuracy_difference", 0.1, 0, 0.2, 0.95, "Welch", 6}};
    findings.plans = {{0, "sequential", "narrow enough", 0.01, 1, 0, 3000, 1}, {1}};
    findings.rounds = {{0, 1, 1, 256, 128, 2, 0.25, 32}};
    findings.centres = {{0, 1, 1, 0.5, 0.25, 0.125, 0.125}};
    findings.trials = {3000, 2};
    store.set_findings(findings);
    store.finish(true);
  }
  EXPECT_THAT(files_in(dir.path()), ElementsAre("r.h5"));
  const ResultFile result = read_result(path);
  EXPECT_TRUE(result.complete);
  ASSERT_EQ(result.info.plans.size(), 2u);
  EXPECT_EQ(result.info.plans[0].sampling, "sequential");
  EXPECT_EQ(result.info.plans[0].used, 3000u);
  EXPECT_EQ(result.info.plans[0].half_width, 0.01);
  ASSERT_EQ(result.info.pairing.size(), 1u);
  EXPECT_EQ(result.info.pairing[0].model, 1u);
  EXPECT_EQ(result.info.pairing[0].shared, 0.75);
  EXPECT_EQ(result.info.models[1].stored_bits, 4000);
  EXPECT_EQ(result.info.models[1].bits_per_weight, 8.5);
  EXPECT_EQ(result.info.models[0].stored_bits, 0) << "as in files of earlier versions";
  const Findings kept = store::read_result_head(path).findings;
  ASSERT_EQ(kept.centres.size(), 1u);
  EXPECT_EQ(kept.centres[0].model, 1);
  EXPECT_EQ(kept.centres[0].sdc_noncritical, 0.25);
  const std::vector<RoundInfo>& rounds = kept.rounds;
  ASSERT_EQ(rounds.size(), 1u);
  EXPECT_EQ(rounds[0].first, 256u);
  EXPECT_EQ(rounds[0].probability, 0.25);
  EXPECT_EQ(rounds[0].allocated, 32u);
  EXPECT_EQ(result.info.points[0].trials, 3000u);
  EXPECT_EQ(result.info.command, info.command);
  EXPECT_EQ(result.info.job, info.job);
  EXPECT_EQ(result.info.fingerprint, info.fingerprint);
  EXPECT_EQ(result.info.fingerprint_parts, info.fingerprint_parts);
  EXPECT_EQ(result.info.provenance, info.provenance);
  EXPECT_EQ(result.info.seed, 7u);
  EXPECT_EQ(result.info.stop_rule, info.stop_rule);
  EXPECT_EQ(result.info.labels, info.labels);
  ASSERT_EQ(result.info.points.size(), 2u);
  EXPECT_EQ(result.info.points[0].models, "unprotected,hardened");
  EXPECT_EQ(result.info.points[1].models, "hardened");
  EXPECT_EQ(result.info.points[0].ber, 1e-5);
  ASSERT_EQ(result.info.models.size(), 2u);
  EXPECT_EQ(result.info.models[0].name, "unprotected");  // by index, not by name
  EXPECT_EQ(result.info.models[1].tensors[1].name, "layer1.0.conv1.weight");
  EXPECT_EQ(result.info.models[1].nodes[1].macs, 442368);
  EXPECT_EQ(result.info.models[1].golden_predictions, info.models[1].golden_predictions);
  ASSERT_EQ(result.info.importance.size(), 2u);
  EXPECT_EQ(result.info.importance[0].layer, "conv1");  // order of execution, not of names
  EXPECT_EQ(result.info.importance[1].order, info.importance[1].order);
  ASSERT_EQ(result.trials.size(), 7u);
  EXPECT_EQ(content(result.trials[0]), content(drawn(2)[0].row));
  EXPECT_EQ(content(result.trials[5]), content(drawn(3000)[1].row));
  EXPECT_EQ(content(result.trials[6]), content(sample_record(1, 1, 1).row));
  ASSERT_EQ(result.estimates.size(), 2u);
  EXPECT_EQ(result.estimates[1].quantity, "accuracy_difference");
  EXPECT_EQ(result.estimates[1].against, 0);
  EXPECT_EQ(result.estimates[0].upper, 0.6);
  ASSERT_EQ(result.audit.size(), 2u);
  EXPECT_EQ(result.audit[0].id, 2u);
  EXPECT_EQ(content(result.audit[1]), content(sample_audit(0, 4, 1)));
  EXPECT_EQ(result.info.audit_rates, info.audit_rates);
  ASSERT_EQ(result.sessions.size(), 1u);
  EXPECT_EQ(result.sessions[0].host, "node1");
  EXPECT_EQ(result.sessions[0].new_trials, 4u);
  EXPECT_GE(result.sessions[0].ended, result.sessions[0].started);
}

TEST(ResultFile, HoldsStrataOfEstimatesAndSharesOfNetworks) {
  const TempDir dir;
  for (const bool strata : {false, true}) {
    const std::string path = dir / (strata ? "strata.h5" : "plain.h5");
    ResultInfo info = sample_info();
    info.plans = {{0, "per-layer"}, {1}};
    info.strata = {{0, 0, "a.weight", 0.25, 1}, {0, 1, "b.weight", 0.75, 1}};
    if (strata) info.shares = {{0, 1, 0, 0.5}, {0, 1, 1, 0.5}};
    if (strata) info.strata[1].misread = 2.5;
    if (strata) info.bounds = {{1, 0, 1e-5}, {1, 1, 2e-5}, {0, 1, 1e-6}};
    {
      ResultStore store = open_store(path, quick_options(), info);
      Findings findings;
      findings.estimates = {{0, 0, -1, "due", 0.5, 0.4, 0.6, 0.95, "stratified t", 3}};
      if (strata)
        findings.estimates.push_back({0, 1, -1, "due", 0.1, 0, 0.2, 0.95, "betting", 6, 1});
      store.set_findings(findings);
      store.finish(true);
    }
    const ResultFile result = read_result(path);
    ASSERT_EQ(result.estimates.size(), strata ? 2u : 1u);
    EXPECT_EQ(result.estimates.front().stratum, -1);
    EXPECT_EQ(result.estimates.back().stratum, strata ? 1 : -1);
    EXPECT_EQ(bound_of(result.info, 1, 1), strata ? std::optional(2e-5) : std::nullopt);
    EXPECT_EQ(is_bounded(result.info, 1), strata);
    EXPECT_FALSE(is_bounded(result.info, 0));
    EXPECT_EQ(stratum_weights(result.info, 0, 0), (std::vector<double>{0.25, 0.75}));
    EXPECT_EQ(result.info.strata[0].misread, -1);
    EXPECT_EQ(result.info.strata[1].misread, strata ? 2.5 : -1);
    EXPECT_EQ(stratum_weights(result.info, 0, 1),
              strata ? (std::vector<double>{0.5, 0.5}) : (std::vector<double>{0.25, 0.75}));
  }
}

TEST(ResultFile, ManyRowsAndFaultsCrossChunks) {
  const TempDir dir;
  const std::string path = dir / "r.h5";
  constexpr std::uint64_t kStored = 20000;
  {
    ResultStore store = open_store(path);
    // Backwards and in chunks, so that order on disk and order of ids differ.
    for (std::uint64_t end = kStored; end > 0; end -= 100) {
      std::vector<TrialRecord> chunk;
      for (std::uint64_t id = end - 100; id < end; ++id)
        for (const auto& record : sample_trial(0, id)) chunk.push_back(record);
      store.append(chunk);
    }
    store.finish(true);
  }
  std::set<std::uint64_t> ids;
  for (std::uint64_t id = 0; id < kStored; ++id) ids.insert(ids.end(), id);
  expect_trials(path, ids);
}

TEST(ResultFile, PlainPythonReadsIt) {
  if (!have_h5py()) GTEST_SKIP() << "/usr/bin/python3 without h5py and pandas";
  const TempDir dir;
  const std::string path = dir / "r.h5";
  {
    ResultStore store = open_store(path);
    for (std::uint64_t id = 0; id < 10; ++id) store.append(sample_trial(0, id));
    store.append(sample_trial(1, 3), {sample_audit(1, 3, 1)});
    store.finish(false);
  }
  const std::string out = python(R"(
import sys, json, h5py, pandas as pd
with h5py.File(sys.argv[1]) as f:
    assert 'centres' not in f['design'], 'only where a plan has some'
    t = pd.DataFrame(f['trials'][:-2])
    s = pd.DataFrame(f['faults/sites'][:])
    o = f['faults/offsets'][:]
    assert list(t.columns) == ('point id model stage stratum probability block n_faults first_node '
        'images correct top5 masked sdc_noncritical sdc_critical due correct_argmax faults_masked '
        'words_wrong words_flagged faults_stored session audited path wall_us rank').split(), list(t.columns)
    assert list(s.columns) == ('kind tensor element word_bits bit before after image effect '
        'length outcome').split()
    assert list(t.id) == sorted(list(range(10)) * 2) and list(t.model) == [0, 1] * 10
    assert t.correct.tolist() == [(i * 37 + m) % 53 for i in range(10) for m in (0, 1)]
    assert t.block.min() == 0 and t.stratum.tolist() == [-1] * 20
    assert t.faults_stored.tolist() == [int(i != 7) for i in range(10) for m in (0, 1)]
    assert (o[1:-2] - o[:-3]).tolist() == (t.n_faults * t.faults_stored).tolist() and o[-1] == len(s)
    assert t.words_wrong.tolist() == [i % 5 for i in range(10) for m in (0, 1)]
    assert (s.image[o[16]], s.effect[o[16]], s.length[o[16] + 1]) == (-1, 3, 2)
    assert s.element[o[16]] == 800 and s.after[o[16]] == 0x3f800000 ^ (1 << 8)
    a = f.attrs
    assert a['schema'] == 'sentinelnn-result' and a['schema_version'] == 2 and a['seed'] == 7
    assert a['complete'] == 0 and a['rng'] == 'philox4x32-10' and a['created'].endswith('Z')
    assert f['trials'].attrs['unit_wall_us'] == 'us'
    assert f['points'].attrs['unit_ber'] == 'flip/bit/trial'
    assert f['golden/hardened/logits'].shape == (256, 2) and f['golden/hardened/logits'][0, 1] == -5.5
    assert f['golden/labels'][:4].tolist() == [1, 0, 0, 1]
    assert f['points'][0]['estimand'] == b'T2' and f['points']['models'][1] == b'hardened'
    assert f['models/hardened'].attrs['index'] == 1
    assert json.loads(f['models/hardened'].attrs['structure'])['widths'] == [16]
    assert f['models/hardened/tensors']['name'].tolist()[1] == b'layer1.0.conv1.weight'
    assert f['models/hardened/tensors']['layout'].tolist() == [b'fp32', b'fp32']
    assert f['points'][0].tolist()[-4:] == (b'flip', b'bit', b'weight', b'')
    assert f['importance/l2-norm/a.conv/scores'][:].tolist() == [3, 4]
    assert f['provenance/fingerprint'].attrs['ber'] == '1e-5'
    assert f['provenance/sessions']['new_trials'].tolist() == [11]
    assert len(f['estimates']) == 0
    assert f['audit'].dtype.names == tuple('point id model images mismatches near_ties correct top5 '
        'masked sdc_noncritical sdc_critical due correct_argmax deviation'.split())
    assert f['audit'][:].tolist() == [(1, 3, 1, 64, 2, 1, 10, 20, 30, 20, 10, 4, 15, 0.25)]
    assert f['design/audit_rates'][:].tolist() == [0.25, 0]
    def no_varlen(name, o):
        if isinstance(o, h5py.Dataset):
            for n in (o.dtype.names or ()): assert o.dtype[n].kind != 'O', (name, n)
    f.visititems(no_varlen)
print('good')
)",
                                 path);
  EXPECT_EQ(out, "good\n");
}

TEST(ResultFile, RatesHaveTheUnitOfTheirFaults) {
  if (!have_h5py()) GTEST_SKIP() << "/usr/bin/python3 without h5py and pandas";
  struct Case {
    const char *effect, *shape, *lifetime, *unit;
  };
  for (const Case& own : {Case{"flip", "bit", "", "flip/bit/trial"},
                          Case{"flip", "bit", "permanent", "flip/bit/trial"},
                          Case{"flip", "bit", "image", "flip/bit/image/trial"},
                          Case{"stuck-at-0", "bit", "", "fault/bit/trial"},
                          Case{"value:1.5", "bit", "image", "fault/word/image/trial"},
                          Case{"flip", "burst:2", "", "event/bit/trial"},
                          Case{kListed, kListed, kListed, "fault/bit/trial"}}) {
    const TempDir dir;
    const std::string path = dir / "r.h5";
    ResultInfo info = sample_info();
    for (PointInfo& point : info.points) {
      point.effect = own.effect;
      point.shape = own.shape;
      point.lifetime = own.lifetime;
    }
    open_store(path, quick_options(), info).finish(true);
    const std::string out = python(
        "import h5py, sys\nprint(h5py.File(sys.argv[1])['points'].attrs['unit_ber'], end='')",
        path);
    EXPECT_EQ(out, own.unit);
  }
}

TEST(ResultFile, ErrorsNameFileAndReason) {
  const TempDir dir;
  EXPECT_THAT(message_of<DataError>([&] { read_result(dir / "none.h5"); }), HasSubstr("no such"));
  write_file_atomic(dir / "text.h5", std::string_view("not HDF5"));
  EXPECT_THAT(message_of<DataError>([&] { read_result(dir / "text.h5"); }), HasSubstr("text.h5"));
  RankingFile ranking;
  ranking.method = "l1-norm";
  write_ranking(dir / "rank.h5", ranking);
  EXPECT_THAT(message_of<DataError>([&] { read_result(dir / "rank.h5"); }),
              HasSubstr("no result of sentinelnn"));
  EXPECT_THAT(message_of<DataError>([&] { open_store(dir / "rank.h5"); }),
              HasSubstr("no result of sentinelnn"));
  EXPECT_THAT(message_of<EnvironmentError>([&] { open_store(dir / "no/such/r.h5"); }),
              HasSubstr("no/such/r.h5"));
}

/// Whether the byte lies in a global heap collection ("GCOL", version and reserved bytes, size
/// u64), where the texts of attributes are, or in a reference to a text in it (length u32, address
/// of the collection u64, number u32): HDF5 1.10 itself reads beyond it when a size or a number is
/// damaged (H5HG_read), before we can see anything.
bool in_global_heap(const Bytes& file, std::size_t at) {
  const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
  for (std::size_t heap = text.find("GCOL"); heap != text.npos;
       heap = text.find("GCOL", heap + 1)) {
    std::uint64_t size = 0;
    std::memcpy(&size, file.data() + heap + 8, sizeof size);
    if (at >= heap && at < heap + size) return true;
    const std::uint64_t address = heap;
    const std::string_view pointer(reinterpret_cast<const char*>(&address), sizeof address);
    for (std::size_t to = text.find(pointer); to != text.npos; to = text.find(pointer, to + 1))
      if (at + 4 >= to && at < to + 12) return true;
  }
  return false;
}

TEST(ResultFile, TruncatedOrDamagedIsAnErrorNeverACrash) {
  const TempDir dir;
  const std::string path = dir / "r.h5";
  {
    ResultStore store = open_store(path);
    for (std::uint64_t id = 0; id < 20; ++id) store.append(sample_trial(0, id));
    store.finish(true);
  }
  const Bytes whole = read_file(path);
  for (std::size_t size = 0; size < whole.size(); size += whole.size() / 40) {
    write_file_atomic(dir / "cut.h5", whole.data(), size);
    EXPECT_THROW(read_result(dir / "cut.h5"), DataError) << size;
  }
  for (std::size_t at = 0; at < whole.size(); at += whole.size() / 150) {
    if (in_global_heap(whole, at)) continue;
    Bytes damaged = whole;
    damaged[at] ^= std::byte{0xff};
    write_file_atomic(dir / "bad.h5", damaged);
    try {
      read_result(dir / "bad.h5");
      read_faults(dir / "bad.h5");
    } catch (const DataError&) {
    }
  }
}

TEST(Ranking, RoundTrip) {
  const TempDir dir;
  RankingFile ranking{"vul-gain",        "abc", "resnet20",  "cifar10",
                      "sentinelnn rank", {},    "limit none"};
  ranking.layers = {{"vul-gain", "z.conv", {0.1, 1e300, 1.0 / 3}, {1, 2, 0}},
                    {"vul-gain", "a.conv", {5}, {0}}};
  write_ranking(dir / "rank.h5", ranking);
  const RankingFile read = read_ranking(dir / "rank.h5");
  EXPECT_EQ(read.method, "vul-gain");
  EXPECT_EQ(read.model_sha256, "abc");
  EXPECT_EQ(read.architecture, "resnet20");
  EXPECT_EQ(read.dataset, "cifar10");
  EXPECT_EQ(read.command, "sentinelnn rank");
  EXPECT_EQ(read.definition, "limit none");
  ASSERT_EQ(read.layers.size(), 2u);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(read.layers[i].layer, ranking.layers[i].layer);
    EXPECT_EQ(read.layers[i].method, "vul-gain");
    EXPECT_EQ(read.layers[i].scores, ranking.layers[i].scores);
    EXPECT_EQ(read.layers[i].order, ranking.layers[i].order);
  }
  EXPECT_THAT(files_in(dir.path()), ElementsAre("rank.h5"));
}

TEST(Ranking, Csv) {
  const TempDir dir;
  RankingFile ranking{"l1-norm", "", "", "", "", {{"l1-norm", "conv1", {0.5, 2}, {1, 0}}}};
  write_ranking(dir / "rank.csv", ranking);
  const Bytes bytes = read_file(dir / "rank.csv");
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()),
            "layer,channel,score,rank\nconv1,0,0.5,1\nconv1,1,2,0\n");
}

TEST(Ranking, RejectsOtherFilesAndBrokenOrders) {
  const TempDir dir;
  RankingFile ranking{"m", "", "", "", "", {{"m", "conv1", {0.5, 2}, {1, 1}}}};
  write_ranking(dir / "rank.h5", ranking);
  EXPECT_THAT(message_of<DataError>([&] { read_ranking(dir / "rank.h5"); }), HasSubstr("conv1"));
  EXPECT_THROW(read_ranking(dir / "none.h5"), DataError);
  EXPECT_THAT(message_of<EnvironmentError>([&] { write_ranking(dir / "no/rank.h5", ranking); }),
              HasSubstr("no/rank.h5"));
}

TEST(Describe, ListsEverything) {
  const TempDir dir;
  const std::string path = dir / "r.h5";
  open_store(path).finish(false);
  const auto lines = describe_hdf5(path);
  EXPECT_THAT(lines, ::testing::Contains("/ @schema = \"sentinelnn-result\""));
  EXPECT_THAT(lines, ::testing::Contains("/ @seed = 7"));
  EXPECT_THAT(lines, ::testing::Contains("/golden/labels  [256] i32"));
  EXPECT_THAT(lines, ::testing::Contains("/golden/hardened/logits  [256, 2] f32"));
  EXPECT_THAT(lines, ::testing::Contains(HasSubstr("/trials  [0] {point u32, id u64, model u32")));
  EXPECT_THROW(describe_hdf5(dir / "none.h5"), DataError);
}

TEST(Fingerprint, SaysWhenOnlyAPlanHasANewVersion) {
  ResultInfo wanted;
  wanted.fingerprint = "b";
  wanted.fingerprint_parts = {{"point 0", "exact:1, strata drawn, version 2 (joint shares)"},
                              {"seed", "1"}};
  const auto complaint = [&](const std::map<std::string, std::string>& parts) -> std::string {
    try {
      check_fingerprint("r.h5", "a", parts, wanted, "give --fresh");
    } catch (const UserError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_THAT(complaint({{"point 0", "exact:1, strata drawn"}, {"seed", "1"}}),
              HasSubstr("earlier version"));
  EXPECT_THAT(complaint({{"point 0", "exact:1, strata drawn"}, {"seed", "2"}}),
              HasSubstr("belongs to another job"));
}

}  // namespace
}  // namespace sentinel
