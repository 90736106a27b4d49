#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "sentinel/core/outcome_counts.hpp"

// clang-format off
/// The result file, schema version 2. Plain HDF5: no pickles, no variable-length types except
/// strings in attributes; units in attributes; integers stored, rates derived; readable with h5py
/// and pandas alone. analysis/results.py is the other reader of this page.
///
///   /                      attributes: schema = "sentinelnn-result", schema_version = 2 (i32),
///                          creator, creator_version, created (ISO 8601 UTC, first session),
///                          published (ISO 8601 UTC, this file), command, job (resolved, TOML),
///                          fingerprint, seed (u64), rng = "philox4x32-10",
///                          complete (u8: 1 when every planned trial is stored)
///   /provenance            attributes: every entry of ResultInfo::provenance (hashes of model,
///   data
///                          and ranking, library versions, arithmetic)
///   /provenance/fingerprint  attributes: every entry of ResultInfo::fingerprint_parts
///   /provenance/sessions   compound SessionRow, one row per incarnation
///   /models/<m>            attributes: index (u32, the number used in /trials), structure (JSON),
///                          checkpoint_sha256, parameters, macs, memory_bytes, classes (i64),
///                          images, correct, top5 (i64, fault-free)
///                          and of files that tell them, stored_bits (i64), bits_per_weight (f64,
///                          check bits included)
///   /models/<m>/mean, std  f64 [channels]: the network's images are (pixel / 255 - mean) / std; only
///                          where these are not the data set's usual constants
///   /models/<m>/tensors    compound TensorInfo; row number = FaultRow::tensor
///   /models/<m>/nodes      compound NodeInfo; row number = TrialRow::first_node
///   /golden/labels         i32 [images]
///   /golden/<m>/logits     f32 [images, classes]
///   /golden/<m>/predictions  i32 [images]
///   /points                compound PointInfo
///   /design                attributes: confidence (f64), stop_rule, images_per_trial (i64, -1: all)
///   /design/plans          compound PlanInfo, one row per point
///   /design/strata         compound StratumInfo, of the points whose trials are stratified; only
///                          files with strata by words read wrongly have the column misread
///   /design/shares         compound ShareInfo: the strata's weights in networks after the first;
///                          only of per-layer, per-class and per-bit plans with several networks
///   /design/bounds         compound BoundInfo: networks that a code answers for without trials; only
///                          where there are any
///   /design/rounds         compound RoundInfo: how each round of such a point was drawn
///   /design/centres        compound CentreInfo, one row per model and round of sequential plans; only
///                          where there are any (of version 2: in files of version 1 the centre is 0)
///   /design/pairing        compound PairingInfo, one row per point with paired faults and model but
///                          the first; only where there are any, and not in files of earlier versions
///   /design/blocks         i32 [images]: block of each image; only where a trial looks at one block
///   /design/audit_rates    f64 [points]: share of the trials that the last session audits
///   /trials                compound TrialRow, sorted by (point, id, model). Used in no estimate are
///                          rows of stage 1, with id < first of the point's plan or id >= trials of
///                          the point (left from before the campaign was shortened, or run while a
///                          sequential plan was already decided). The weight of a row in a mean over
///                          the population: simple 1 / n, sequential W_h / (probability n), of all
///                          other plans W_h / n_h (W_h of the row's network). Accuracy is estimated
///                          by the mean of a row's difference to the fault-free network on the same
///                          block. In a sequential plan the share of an outcome is the mean over the n trials of
///                          c + (W_h / probability) (y - c), y the trial's share, c that of
///                          /design/centres for its round (of DUE or SDC-critical the sum of both):
///                          the four sum to 1 in every trial. A mean below 0 counts as 0 and the
///                          four are divided by their sum
///   /faults/offsets        u64 [trials + 1]: the stored faults of row i of /trials are
///                          sites[offsets[i] : offsets[i + 1]]; n_faults of them, or none where
///                          faults_stored is 0
///   /faults/sites          compound FaultRow
///   /audit                 compound AuditRow, sorted by (point, id, model): the rows of /trials with
///                          audited = 1, run again by the reference path
///   /importance/<method>/<layer>         attribute index (u32, execution order)
///   /importance/<method>/<layer>/scores  f64 [channels]
///   /importance/<method>/<layer>/order   i64 [channels], order[0] = most important
///                          and for channel-FI lower, upper (f64 [channels], interval of the score
///                          over trials), accuracy (f64 [channels], mean), trials (u64 [channels])
///   /estimates             compound EstimateRow: of sequential plans every look (`trials` tells
///                          which), of others the last. Of accuracy: the mean of a row's difference to
///                          the fault-free network on the same block, plus fault-free accuracy.
///                          Rows with a stratum are of its faults alone, and stand behind those of
///                          the whole; only files that have any have the column
///
/// Compound members carry the names of the structs' fields below, in their order; strings in them
/// have the fixed length of the longest, padded with zeros. The attribute `unit_<member>` of a
/// dataset is the unit of that member.
///
/// Schema version 1 had flips in weights only. Its files are read, merged and replayed, and never
/// continued. They lack some members, which are read as: /trials faults_masked 0, words_wrong and
/// words_flagged kNotKnown, faults_stored 1; /faults/sites image -1, effect 0, length 1; tensors
/// layout "fp32"; /points effect "flip", shape "bit", target "weight", selection "".
// clang-format on
namespace sentinel {

inline constexpr int kSchemaVersion = 2;
// Values of the attribute `schema` of our HDF5 files.
inline constexpr char kResultSchema[] = "sentinelnn-result";
inline constexpr char kRankingSchema[] = "sentinelnn-ranking";
/// A count that the file does not tell, as rows of schema 1 have some.
inline constexpr std::uint32_t kNotKnown = UINT32_MAX;

/// The estimand of a point whose trials come from a list, which is no sample; the method of its
/// estimates, and what /points says of effect and shape.
inline constexpr char kListed[] = "listed";

/// One trial of one model.
struct TrialRow : OutcomeCounts {
  std::uint32_t point = 0;
  std::uint64_t id = 0;
  std::uint32_t model = 0;    // index of /models/<m>
  std::uint8_t stage = 0;     // 0 = main sample, 1 = pilot (of stratified plans)
  std::int32_t stratum = -1;  // -1: not stratified
  double probability = 1;     // with which the stratum was drawn
  std::int32_t block = -1;    // image block, -1: all images
  std::uint32_t n_faults = 0;
  std::int32_t first_node = -1;  // first faulty node of the model's graph, -1: none
  // Here in files: the images and counts of OutcomeCounts, in their order.
  std::uint32_t faults_masked = 0;  // faults that left their bit or word as it was (stuck-at)
  std::uint32_t words_wrong = 0;    // words read, after decoding, as another word than was stored
  std::uint32_t words_flagged = 0;  // words that a code found damaged beyond repair
  /// 1: /faults/sites has the row's n_faults faults; 0: it has none of them, and seed, point and
  /// trial draw them again.
  std::uint8_t faults_stored = 1;
  std::uint32_t session = 0;  // set by ResultStore::append
  std::uint8_t audited = 0;   // 1: /audit has the row's
  std::uint8_t path = 0;      // EnginePath: 0 reference, 1 fast
  std::uint32_t wall_us = 0;  // [us]
  std::uint32_t rank = 0;
};

/// One fault: a flipped bit, or as `effect` says.
struct FaultRow {
  static constexpr std::uint8_t kNotTold = 255;

  std::uint8_t kind = 0;     // TensorClass
  std::uint32_t tensor = 0;  // row of /models/<m>/tensors
  /// Row-major in the logical tensor [out + copies, in/groups, kh, kw]: all originals, then the
  /// copies of duplicated channels in their order; whatever the memory format. The tensor of this
  /// name in the network's .pth has the same order, but for duplicates by group (`layout` "group"
  /// of the layer in /models/<m>: structure). There the d duplicated channels are the first, and
  /// their copies lie right behind them: row r of the file is row r of this one for r < d, row out
  /// + r - d for d <= r < 2 d, row r - d from there. analysis/checkpoints.py is that map.
  std::uint64_t element = 0;
  std::uint8_t word_bits = 32;
  std::uint8_t bit = 0;  // 0 = least significant
  /// Raw words. Where a trial flips several bits of a word, the second finds what the first left.
  std::uint64_t before = 0, after = 0;
  std::int32_t image = -1;  // that alone sees the fault; -1: all
  std::uint8_t effect = 0;  // 0 flip, 1 stuck-at-0, 2 stuck-at-1, 3 random-word, 4 value
  std::uint8_t length = 1;  // bits hit: `bit` and those above it
  /// ImageOutcome of `image` in this trial: 0 masked, 1 SDC-noncritical, 2 SDC-critical, 3 DUE.
  /// kNotTold: all images see the fault, or an earlier version wrote the row.
  std::uint8_t outcome = kNotTold;
};

struct TrialRecord {
  TrialRow row;
  std::vector<FaultRow> faults;
};

struct EstimateRow {
  std::uint32_t point = 0;
  std::int32_t model = 0;
  std::int32_t against =
      -1;                // >= 0: the difference model - against, paired or not as `method` says
  std::string quantity;  // "accuracy", "sdc_critical", "due", "failing" (either),
                         // "masked", "sdc_noncritical", "accuracy_argmax",
                         // "accuracy_difference"
  double estimate = 0, lower = 0, upper = 0, confidence = 0.95;  // lower, upper: NaN of kListed
  std::string method;  // "betting", "t over trials", "Korn-Graubard", "census", "stratified t",
                       // "guarded stratified t", "MOVER", "asymptotic confidence sequence",
                       // "empirical-Bernstein confidence sequence", "Welch", "two-sample betting",
                       // "two-sample MOVER", "rule of three", "Clopper-Pearson over images";
                       // "paired " before one of them;
                       // "listed": a mean without interval; "bound: P(any word read wrongly)", that
                       // certainly holds, of networks that need no trial; "... and bound": of the
                       // difference between one of these and another
  std::uint64_t trials = 0;
  std::int32_t stratum = -1;  // >= 0: of this stratum of the point alone; -1: of the whole
};

/// What the reference path found where the fast one found a TrialRow.
/// The split of masked and sdc_noncritical belongs to a path.
struct AuditRow : OutcomeCounts {
  std::uint32_t point = 0;
  std::uint64_t id = 0;
  std::uint32_t model = 0;
  // Here in files: the images. Behind near_ties: the counts, of the reference path.
  /// Images that are DUE in one path only, or of another predicted class without a near tie, or
  /// with a logit that deviates by more than 1e-3 of max|z|; at least as many as the row's counts
  /// differ by from those of the fast path run once more.
  std::uint32_t mismatches = 0;
  /// Images that would be a mismatch, but rounding decides. Either the two largest logits of the
  /// reference lie closer together than 1e-4 of max|z|. Or the reference is run in another memory
  /// format or, where neither is DUE, in double precision, and gives the engine's result, or
  /// differs from the reference by more than 1e-3 of max|z| and a quarter of what the engine does.
  std::uint32_t near_ties = 0;
  /// Largest |fast - reference| / max|reference| of an image without DUE in either path.
  double deviation = 0;
};

struct TensorInfo {
  std::string name;
  std::uint8_t kind = 0;  // TensorClass; from 6 on outputs of nodes, elements of one image
  std::uint64_t elements = 0, originals = 0;
  std::uint8_t word_bits = 32;  // of the stored word
  std::string layout = "fp32";  // format and code of its words, such as "int5:channel+bch:16,5"
};
struct NodeInfo {
  std::string name, op;
  std::int64_t macs = 0, parameters = 0;
};

struct ModelInfo {
  std::string name;       // "unprotected", "pruned+hardened"; docs/names.md
  std::string structure;  // JSON
  std::string checkpoint_sha256;
  std::vector<double> mean, std;  // [channels] of its images; empty: as usual for the data set
  std::int64_t parameters = 0, macs = 0, memory_bytes = 0;
  std::int64_t stored_bits = 0;  // of all stored tensors; 0: the file does not tell
  double bits_per_weight = 0;    // of its stored words, check bits included; 0: as above
  std::int64_t images = 0, correct = 0, top5 = 0;  // fault-free
  std::vector<TensorInfo> tensors;
  std::vector<NodeInfo> nodes;
  std::int64_t classes = 0;
  std::vector<float> golden_logits;              // [images, classes]
  std::vector<std::int32_t> golden_predictions;  // [images]
};

/// How the trials of a point are chosen, and when they are enough.
struct PlanInfo {
  std::uint32_t point = 0;
  /// A word of core/sampling_words.hpp. Where it names parts of the memory (per-layer and the
  /// like), strata are the stored tensors, their classes or the bits of stored words, and have
  /// estimates of their own.
  std::string sampling = "simple";
  std::string stop_rule = "fixed number of trials";
  double half_width = 0;        // wanted, of the share (T1) or accuracy; 0: none
  std::uint8_t guaranteed = 0;  // intervals that hold for every number of trials
  std::uint64_t first = 0;      // the trials are first ... trials - 1 of the point
  std::uint64_t used = 0;       // trials in the estimates, those of a pilot not counted
  std::uint8_t reached = 0;     // the stop rule is met
};
struct StratumInfo {
  std::uint32_t point = 0;
  std::int32_t stratum = 0;
  std::string name;
  double weight = 0;  // share of the population, exact
  double cost = 1;    // of a trial, relative, from MACs; 0, of the last alone: no trial comes from
                      // it, as in all of them the network is read as without faults
  double misread = -1;  // mean number of words, or of blocks of them, that are read wrongly, where
                        // strata are made by that number; -1: they are others
};
/// The weight that a stratum has in another network than the first.
struct ShareInfo {
  std::uint32_t point = 0, model = 0;
  std::int32_t stratum = 0;
  double weight = 0;  // share of the network's own population; 0: it has nothing of the stratum
};
/// A network whose code reads nearly all trials right needs none.
struct BoundInfo {
  std::uint32_t point = 0, model = 0;
  double bound = 0;  // P(any word read wrongly) in a trial, which bounds all its estimates
};
struct RoundInfo {
  std::uint32_t point = 0, round = 0;
  std::uint8_t stage = 0;
  std::uint64_t first = 0, trials = 0;  // ids
  std::int32_t stratum = 0;
  double probability = 0;       // with which a trial of the round comes from the stratum
  std::uint64_t allocated = 0;  // trials of the stratum, where that was decided; else 0
};

/// What a round of a sequential plan took the outcome shares of a model to be: those of the trials
/// of rounds up to the one before the last, sum (W/q) y / sum W/q; in the first two 1/4 each. Round
/// r has 32, 64, 128, 256, 256 ... trials.
struct CentreInfo {
  std::uint32_t point = 0, round = 0;
  std::int32_t model = 0;
  double masked = 0, sdc_noncritical = 0, sdc_critical = 0, due = 0;
};

/// How much of its faults a model has in common with the first one.
struct PairingInfo {
  std::uint32_t point = 0, model = 0;
  /// Share of the selected sites of the first model whose faults this one has too. The others are
  /// gone, or stored otherwise: there it has faults of its own. Of a list: share of its faults.
  double shared = 1;
};

struct PointInfo {
  std::uint32_t id = 0;
  std::string estimand = "T2";
  std::string fault_model;
  double ber = 0;            // of the attribute unit_ber: [flips/bit/trial], or as faults are
  std::uint64_t trials = 0;  // planned; of a sequential plan that has stopped, those used
  std::string models;        // comma-separated names; left empty, ResultStore writes all
  // As the job's options say it; effect and shape of a list are kListed.
  std::string effect = "flip", shape = "bit", target = "weight";
  std::string selection = {};  // empty: all of the target
  /// Of faults in outputs of nodes "image" (each image draws its own) or "permanent"; else empty,
  /// and only files that have any have the column.
  std::string lifetime = {};
};

/// What channel-FI saw of a layer's channels beside their scores; empty for other methods.
struct ChannelSample {
  std::vector<double> lower, upper;  // interval of the score, over trials
  std::vector<double> accuracy;      // mean over the trials
  std::vector<std::uint64_t> trials;
};
struct ImportanceInfo {
  std::string method, layer;
  std::vector<double> scores;
  std::vector<std::int64_t> order;
  ChannelSample sample = {};
};

/// Everything of a result file that is known before the first trial.
struct ResultInfo {
  int schema = kSchemaVersion;  // of the file
  std::string command, job, fingerprint;
  /// What the fingerprint was made from, name -> value: so that a mismatch can say what differs.
  std::map<std::string, std::string> fingerprint_parts;
  std::uint64_t seed = 0;
  double confidence = 0.95;
  std::string stop_rule = "fixed number of trials";
  std::int64_t images_per_trial = -1;      // -1: all
  std::vector<std::int32_t> image_blocks;  // [images], empty: no blocks
  std::vector<PlanInfo> plans;             // by point; none of old files
  std::vector<double> audit_rates;         // by point; none of old files
  std::vector<StratumInfo> strata;
  std::vector<ShareInfo> shares;
  std::vector<BoundInfo> bounds;
  std::vector<PairingInfo> pairing;
  std::map<std::string, std::string> provenance;
  std::vector<ModelInfo> models;  // index = position
  std::vector<std::int32_t> labels;
  std::vector<PointInfo> points;
  std::vector<ImportanceInfo> importance;
};

/// P(any word read wrongly) in a trial, where that answers for the model without trials.
std::optional<double> bound_of(const ResultInfo& info, std::uint32_t point, std::size_t model);
/// Whether it does so for every model of the point.
bool is_bounded(const ResultInfo& info, std::uint32_t point);

/// Weights of a point's strata in the population of a model, by stratum.
std::vector<double> stratum_weights(const ResultInfo& info, std::uint32_t point, std::size_t model);

/// What becomes known as trials come in.
struct Findings {
  std::vector<EstimateRow> estimates;
  std::vector<PlanInfo> plans;  // empty: those of ResultInfo hold
  std::vector<RoundInfo> rounds;
  std::vector<CentreInfo> centres;
  std::vector<std::uint64_t> trials;  // planned, by point; empty: those of ResultInfo hold
};

/// One incarnation of the campaign, as its caller knows it.
struct SessionInfo {
  std::uint32_t ranks = 1;
  std::string host;
  std::string info;  // JSON: devices, threads, instruction set, SLURM variables, version, command
};

/// One incarnation of the campaign, as stored.
struct SessionRow {
  std::uint32_t number = 0;
  double started = 0, ended = 0;  // [s] since 1970; ended = last append
  std::uint32_t ranks = 1;
  std::string host;
  std::uint64_t new_trials = 0;
  std::string info;
};

}  // namespace sentinel
