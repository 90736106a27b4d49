#include "store/checks.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "sentinel/core/error.hpp"
#include "sentinel/core/sampling_words.hpp"
#include "sentinel/core/time.hpp"

namespace sentinel::store {
namespace {

constexpr std::uint64_t kMostCount = INT64_MAX;  // of trials and the like, which tables add up
constexpr std::int64_t kMostNumber = INT64_MAX;

[[noreturn]] void refuse(const Place& at, const std::string& what) {
  throw DataError(std::string(at.path),
                  fmt::format("{} {}: {}; the file is damaged", at.table, at.row, what));
}

template <class T>
void within(const Place& at, std::string_view column, T value, T low, T high) {
  if (value >= low && value <= high) return;  // not so for NaN
  if (low > high) refuse(at, fmt::format("{} is {}, and nothing is there to name", column, value));
  refuse(at, low == high ? fmt::format("{} is {}, not {}", column, value, low)
                         : fmt::format("{} is {}, not from {} to {}", column, value, low, high));
}

void has_rows(const std::string& path, const std::string& table, std::size_t rows,
              std::size_t wanted) {
  if (rows != wanted)
    throw DataError(
        path, fmt::format("{} has {} rows, not {}; the file is damaged", table, rows, wanted));
}

/// Three names, so that numbers of several widths need no casts where they are checked.
void count_in(const Place& at, std::string_view column, std::uint64_t value, std::uint64_t low,
              std::uint64_t high) {
  within(at, column, value, low, high);
}

void number_in(const Place& at, std::string_view column, std::int64_t value, std::int64_t low,
               std::int64_t high) {
  within(at, column, value, low, high);
}

void share_in(const Place& at, std::string_view column, double value, double low, double high) {
  within(at, column, value, low, high);
}

/// The row of a table with `size` rows.
void names_row(const Place& at, std::string_view column, std::uint64_t value, std::size_t size) {
  if (value >= size)
    refuse(at, fmt::format("{} is {}, and there {} {}", column, value, size == 1 ? "is" : "are",
                           size == 0 ? "none" : fmt::format("{}, from 0 on", size)));
}

void finite(const Place& at, std::string_view column, double value) {
  if (!std::isfinite(value)) refuse(at, fmt::format("{} is {}, no number", column, value));
}

void positive(const Place& at, std::string_view column, double value) {
  finite(at, column, value);
  if (value <= 0) refuse(at, fmt::format("{} is {}, not above 0", column, value));
}

/// A share of what there is, of which some must be.
/// Earlier versions wrote 1 + 2^-52 too.
constexpr double kMostProbability = 1 + 1e-12;

void probability(const Place& at, std::string_view column, double value) {
  share_in(at, column, value, 0, kMostProbability);
  if (value == 0) refuse(at, fmt::format("{} is 0, not above 0", column));
}

std::int64_t size_of(std::size_t size) {
  return static_cast<std::int64_t>(size);
}

void check_tables(const std::string& path, const ModelInfo& model) {
  const std::string tensors = "/models/" + model.name + "/tensors, row";
  for (std::size_t i = 0; i < model.tensors.size(); ++i) {
    const TensorInfo& tensor = model.tensors[i];
    const Place at{path, tensors, i};
    count_in(at, "kind", tensor.kind, 0, 8);
    count_in(at, "elements", tensor.elements, 1, kMostCount);
    count_in(at, "originals", tensor.originals, 1, tensor.elements);
    count_in(at, "word_bits", tensor.word_bits, 1, 64);
  }
  const std::string nodes = "/models/" + model.name + "/nodes, row";
  for (std::size_t i = 0; i < model.nodes.size(); ++i) {
    number_in({path, nodes, i}, "macs", model.nodes[i].macs, 0, kMostNumber);
    number_in({path, nodes, i}, "parameters", model.nodes[i].parameters, 0, kMostNumber);
  }
}

void check_normalisation(const Place& at, const ModelInfo& model) {
  if (model.mean.size() != model.std.size()) refuse(at, "mean and std are of different lengths");
  for (const double mean : model.mean) finite(at, "mean", mean);
  for (const double std : model.std) positive(at, "std", std);
}

void check_golden(const std::string& path, const ResultInfo& info, const ModelInfo& model) {
  const std::string table = "/golden/" + model.name + "/predictions", rows = table + ", row";
  const auto images = static_cast<std::size_t>(model.images);
  has_rows(path, "/golden/labels", info.labels.size(), images);
  has_rows(path, table, model.golden_predictions.size(), images);
  for (std::size_t i = 0; i < images; ++i) {
    number_in({path, rows, i}, "class", model.golden_predictions[i], -1, model.classes - 1);
    number_in({path, "/golden/labels, row", i}, "class", info.labels[i], 0, model.classes - 1);
  }
}

void check_model(const std::string& path, const ResultInfo& info, std::size_t number) {
  const ModelInfo& model = info.models[number];
  const Place at{path, "/models, index", number};
  number_in(at, "parameters", model.parameters, 1, kMostNumber);
  number_in(at, "macs", model.macs, 1, kMostNumber);
  number_in(at, "memory_bytes", model.memory_bytes, 0, kMostNumber);
  number_in(at, "stored_bits", model.stored_bits, 0, kMostNumber);
  share_in(at, "bits_per_weight", model.bits_per_weight, 0, std::numeric_limits<double>::max());
  number_in(at, "classes", model.classes, 1, INT32_MAX);
  number_in(at, "images", model.images, 1, UINT32_MAX);
  number_in(at, "top5", model.top5, 0, model.images);
  number_in(at, "correct", model.correct, 0, model.top5);
  check_normalisation(at, model);
  check_tables(path, model);
  check_golden(path, info, model);
}

/// "unprotected,hardened", each a model of the file.
void check_names(const Place& at, const ResultInfo& info, const std::string& names) {
  for (std::size_t begin = 0, comma = 0; comma != std::string::npos; begin = comma + 1) {
    comma = names.find(',', begin);
    const std::string name = names.substr(begin, comma - begin);
    if (std::none_of(info.models.begin(), info.models.end(),
                     [&](const ModelInfo& model) { return model.name == name; }))
      refuse(at, "models names '" + name + "', which is not there");
  }
}

void check_points(const std::string& path, const ResultInfo& info) {
  if (info.points.empty()) throw DataError(path, "/points is empty; the file is damaged");
  for (std::size_t p = 0; p < info.points.size(); ++p) {
    const PointInfo& point = info.points[p];
    const Place at{path, "/points, row", p};
    count_in(at, "id", point.id, p, p);
    share_in(at, "ber", point.ber, 0, 1);
    count_in(at, "trials", point.trials, 0, kMostCount);
    check_names(at, info, point.models);
  }
}

void check_plans(const std::string& path, const ResultInfo& info) {
  for (std::size_t p = 0; p < info.plans.size(); ++p) {
    const PlanInfo& plan = info.plans[p];
    const Place at{path, "/design/plans, row", p};
    count_in(at, "point", plan.point, p, p);
    if (!find_sampling(plan.sampling))
      refuse(at, "sampling '" + plan.sampling + "' is unknown to this version");
    share_in(at, "half_width", plan.half_width, 0, 1);
    count_in(at, "first", plan.first, 0, info.points.at(p).trials);
    count_in(at, "used", plan.used, 0, kMostCount);
  }
}

/// A stratum that costs nothing is the last of its point, and not all of it.
void check_known(const Place& at, const StratumInfo& stratum, const StratumInfo* before) {
  if (before && before->point == stratum.point && before->cost == 0)
    refuse(at, "the stratum before costs 0, which only the last may");
  if (stratum.cost > 0) return;
  number_in(at, "stratum", stratum.stratum, 1, std::numeric_limits<std::int32_t>::max());
  share_in(at, "weight", stratum.weight, 0, std::nextafter(1.0, 0.0));
}

/// A point has its strata from 0 on, and together they are all of its population.
void check_strata(const std::string& path, const ResultInfo& info) {
  constexpr double kRounding = 1e-6;
  std::vector<std::int64_t> next(info.points.size());
  std::vector<double> sums(info.points.size());
  for (std::size_t i = 0; i < info.strata.size(); ++i) {
    const StratumInfo& stratum = info.strata[i];
    const Place at{path, "/design/strata, row", i};
    names_row(at, "point", stratum.point, info.points.size());
    number_in(at, "stratum", stratum.stratum, next[stratum.point], next[stratum.point]);
    share_in(at, "weight", stratum.weight, 0, 1 + kRounding);
    share_in(at, "cost", stratum.cost, 0, std::numeric_limits<double>::max());
    if (stratum.misread != -1)
      share_in(at, "misread", stratum.misread, 0, std::numeric_limits<double>::max());
    check_known(at, stratum, i > 0 ? &info.strata[i - 1] : nullptr);
    ++next[stratum.point];
    sums[stratum.point] += stratum.weight;
  }
  for (std::size_t p = 0; p < sums.size(); ++p) {
    const bool simple = p >= info.plans.size() || info.plans[p].sampling == PlanInfo().sampling;
    const Place at{path, "/design/strata, point", p};
    if (!simple || next[p] > 0)
      share_in(at, "the sum of weights", sums[p], 1 - kRounding, 1 + kRounding);
  }
}

/// By point; they name points that are there.
std::vector<std::int64_t> strata_counts(const ResultInfo& info) {
  std::vector<std::int64_t> counts(info.points.size());
  for (const StratumInfo& stratum : info.strata) ++counts.at(stratum.point);
  return counts;
}

/// Each point and model that has any has all of them from 0 on, and together they are 1.
void check_shares(const std::string& path, const ResultInfo& info) {
  constexpr double kRounding = 1e-6;
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::pair<std::int64_t, double>> seen;
  for (std::size_t i = 0; i < info.shares.size(); ++i) {
    const ShareInfo& share = info.shares[i];
    const Place at{path, "/design/shares, row", i};
    names_row(at, "point", share.point, info.points.size());
    number_in(at, "model", share.model, 1, size_of(info.models.size()) - 1);
    auto& [next, sum] = seen[{share.point, share.model}];
    number_in(at, "stratum", share.stratum, next, next);
    share_in(at, "weight", share.weight, 0, 1 + kRounding);
    ++next;
    sum += share.weight;
  }
  const std::vector<std::int64_t> strata = strata_counts(info);
  for (const auto& [key, of] : seen) {
    const Place at{path, "/design/shares, point", key.first};
    number_in(at, "the number of strata", of.first, strata[key.first], strata[key.first]);
    share_in(at, "the sum of weights", of.second, 1 - kRounding, 1 + kRounding);
  }
}

/// Rows of a point and model, each once, with a share in a column.
template <class Row>
void check_by_model(const std::string& path, const ResultInfo& info, const std::vector<Row>& rows,
                    const char* table, std::uint32_t first_model, const char* column,
                    double Row::*share) {
  std::set<std::pair<std::uint32_t, std::uint32_t>> seen;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Place at{path, table, i};
    names_row(at, "point", rows[i].point, info.points.size());
    number_in(at, "model", rows[i].model, first_model, size_of(info.models.size()) - 1);
    if (!seen.insert({rows[i].point, rows[i].model}).second)
      refuse(at, "point and model are there twice");
    share_in(at, column, rows[i].*share, 0, 1);
  }
}

/// Images of each block, none without any.
std::vector<std::uint64_t> images_by_block(const std::vector<std::int32_t>& blocks) {
  std::vector<std::uint64_t> images;
  if (!blocks.empty())
    images.resize(static_cast<std::size_t>(*std::max_element(blocks.begin(), blocks.end())) + 1);
  for (const std::int32_t block : blocks) ++images[static_cast<std::size_t>(block)];
  return images;
}

void check_design(const std::string& path, const ResultInfo& info) {
  if (!(info.confidence > 0 && info.confidence < 1))
    throw DataError(path, fmt::format("/design: confidence is {}, not between 0 and 1; the file is "
                                      "damaged",
                                      info.confidence));
  const std::int64_t images = info.images_per_trial;
  if (images < -1 || images == 0 || images > size_of(info.labels.size()))
    throw DataError(path, fmt::format("/design: images_per_trial is {}, and there are {} images; "
                                      "the file is damaged",
                                      images, info.labels.size()));
  for (std::size_t p = 0; p < info.audit_rates.size(); ++p)
    share_in({path, "/design/audit_rates, row", p}, "rate", info.audit_rates[p], 0, 1);
  for (std::size_t i = 0; i < info.image_blocks.size(); ++i)
    number_in({path, "/design/blocks, row", i}, "block", info.image_blocks[i], 0,
              size_of(info.image_blocks.size()) - 1);
  const auto sizes = images_by_block(info.image_blocks);
  for (std::size_t b = 0; b < sizes.size(); ++b)
    if (sizes[b] == 0) refuse({path, "/design/blocks, block", b}, "no image is in it");
}

void check_lengths(const std::string& path, const ResultInfo& info) {
  // Files of earlier versions have none of these.
  if (!info.plans.empty()) has_rows(path, "/design/plans", info.plans.size(), info.points.size());
  if (!info.audit_rates.empty())
    has_rows(path, "/design/audit_rates", info.audit_rates.size(), info.points.size());
  if (!info.image_blocks.empty())
    has_rows(path, "/design/blocks", info.image_blocks.size(), info.labels.size());
}

/// Whether strata have estimates of their own.
bool is_divided(const ResultInfo& info, std::uint32_t point) {
  return point < info.plans.size() && sampling_of(info.plans[point].sampling).division;
}

/// Averages of plans without weights lie in [0, 1]; what others weigh may lie beside it, and so
/// may the accuracy on blocks of images, but not far.
void check_estimate(const Place& at, const ResultInfo& info,
                    const std::vector<std::int64_t>& strata, const EstimateRow& row) {
  constexpr double kRounding = 1e-9, kFar = 10;
  const std::int64_t models = size_of(info.models.size());
  names_row(at, "point", row.point, info.points.size());
  number_in(at, "model", row.model, 0, models - 1);
  number_in(at, "against", row.against, -1, models - 1);
  const bool simple =
      row.point >= info.plans.size() || info.plans[row.point].sampling == PlanInfo().sampling;
  const bool share = simple && row.quantity.rfind("accuracy", 0) != 0;
  const double low = share ? -kRounding : -kFar, high = share ? 1 + kRounding : kFar;
  share_in(at, "estimate", row.estimate, low, high);
  if (row.method != kListed || !std::isnan(row.lower) || !std::isnan(row.upper)) {
    share_in(at, "lower", row.lower, low, high);
    share_in(at, "upper", row.upper, row.lower - kRounding, high);
  }
  probability(at, "confidence", row.confidence);
  const bool bound = row.method.rfind("bound", 0) == 0;  // it needs none
  count_in(at, "trials", row.trials, bound ? 0 : 1, kMostCount);
  if (bound && !bound_of(info, row.point, static_cast<std::size_t>(row.model)))
    refuse(at, "the method is a bound, which /design/bounds does not have");
  number_in(at, "stratum", row.stratum, -1,
            is_divided(info, row.point) ? strata.at(row.point) - 1 : -1);
}

void check_round(const Place& at, const ResultInfo& info, const RoundInfo& row) {
  names_row(at, "point", row.point, info.points.size());
  count_in(at, "trials", row.trials, 0, kMostCount);
  count_in(at, "first", row.first, 0, kMostCount - row.trials);
  share_in(at, "probability", row.probability, 0, kMostProbability);
}

void check_centre(const Place& at, const ResultInfo& info, const CentreInfo& row) {
  names_row(at, "point", row.point, info.points.size());
  number_in(at, "model", row.model, 0, size_of(info.models.size()) - 1);
  for (const double share : {row.masked, row.sdc_noncritical, row.sdc_critical, row.due})
    finite(at, "a share", share);
}

}  // namespace

void check_info(const std::string& path, const ResultInfo& info) {
  if (info.models.empty()) throw DataError(path, "/models is empty; the file is damaged");
  check_lengths(path, info);
  for (std::size_t m = 0; m < info.models.size(); ++m) check_model(path, info, m);
  check_points(path, info);
  check_design(path, info);
  check_plans(path, info);
  check_strata(path, info);
  check_shares(path, info);
  check_by_model(path, info, info.bounds, "/design/bounds, row", 0, "bound", &BoundInfo::bound);
  check_by_model(path, info, info.pairing, "/design/pairing, row", 1, "shared",
                 &PairingInfo::shared);
  for (const ImportanceInfo& layer : info.importance) check_importance(path, layer);
}

void check_session(const Place& at, const SessionRow& session) {
  count_in(at, "number", session.number, 0, kMostSessions);
  if (!is_time(session.started))
    refuse(at, fmt::format("started is {}, no time in seconds since 1970", session.started));
  if (!is_time(session.ended))
    refuse(at, fmt::format("ended is {}, no time in seconds since 1970", session.ended));
  count_in(at, "ranks", session.ranks, 1, INT32_MAX);
  count_in(at, "new_trials", session.new_trials, 0, kMostCount);
}

void check_sessions(const std::string& path, const std::vector<SessionRow>& sessions) {
  std::set<std::uint32_t> numbers;
  for (std::size_t i = 0; i < sessions.size(); ++i) {
    const Place at{path, "/provenance/sessions, row", i};
    check_session(at, sessions[i]);
    if (!numbers.insert(sessions[i].number).second)
      refuse(at, fmt::format("number {} is there twice", sessions[i].number));
  }
}

void check_findings(const std::string& path, const ResultInfo& info, const Findings& findings) {
  const std::vector<std::int64_t> strata = strata_counts(info);
  for (std::size_t i = 0; i < findings.estimates.size(); ++i)
    check_estimate({path, "/estimates, row", i}, info, strata, findings.estimates[i]);
  for (std::size_t i = 0; i < findings.rounds.size(); ++i)
    check_round({path, "/design/rounds, row", i}, info, findings.rounds[i]);
  for (std::size_t i = 0; i < findings.centres.size(); ++i)
    check_centre({path, "/design/centres, row", i}, info, findings.centres[i]);
}

RowChecks::RowChecks(const ResultInfo& info, std::vector<std::uint32_t> sessions)
    : info_(info),
      sessions_(std::move(sessions)),
      block_images_(images_by_block(info.image_blocks)),
      strata_(strata_counts(info)) {
  std::sort(sessions_.begin(), sessions_.end());
}

namespace {

void check_outcomes(const Place& at, const OutcomeCounts& counts) {
  const std::uint64_t outcomes =
      std::uint64_t{counts.masked} + counts.sdc_noncritical + counts.sdc_critical + counts.due;
  count_in(at, "the sum of masked, sdc_noncritical, sdc_critical and due", outcomes, counts.images,
           counts.images);
  count_in(at, "top5", counts.top5, 0, counts.images - counts.due);
  count_in(at, "correct", counts.correct, 0, counts.top5);
  count_in(at, "correct_argmax", counts.correct_argmax, counts.correct, counts.images);
}

}  // namespace

std::vector<IdRange> planned_ids(const ResultInfo& info) {
  std::vector<IdRange> ranges;
  for (const PointInfo& point : info.points) {
    const PlanInfo plan = point.id < info.plans.size() ? info.plans[point.id] : PlanInfo();
    // Trials may have been running when the plan was decided.
    const bool stopped = may_stop(sampling_of(plan.sampling).sampling) && plan.reached != 0;
    ranges.push_back({plan.first, stopped ? kMostCount : point.trials});
  }
  return ranges;
}

void RowChecks::set_plan(std::uint32_t session, std::vector<IdRange> ranges) {
  planned_[session] = std::move(ranges);
}

void RowChecks::check_id(const Place& at, const TrialRow& row) const {
  count_in(at, "id", row.id, 0, kMostCount);
  const auto plan = planned_.find(row.session);
  if (plan == planned_.end() || row.point >= plan->second.size()) return;
  const auto [first, end] = plan->second[row.point];
  if (row.id < first || row.id >= end)
    refuse(at,
           fmt::format("id is {}, and the plan of point {} has the trials {} to {} (without {})",
                       row.id, row.point, first, end, end));
}

void RowChecks::check(const Place& at, const TrialRow& row) const {
  names_row(at, "point", row.point, info_.points.size());
  check_id(at, row);
  names_row(at, "model", row.model, info_.models.size());
  const std::int64_t strata = strata_[row.point];
  number_in(at, "stratum", row.stratum, strata == 0 ? -1 : 0, strata - 1);
  probability(at, "probability", row.probability);
  const std::int64_t blocks = size_of(block_images_.size());
  number_in(at, "block", row.block, blocks == 0 ? -1 : 0, blocks - 1);
  number_in(at, "first_node", row.first_node, -1,
            size_of(info_.models[row.model].nodes.size()) - 1);
  check_counts(at, row);
  if (!std::binary_search(sessions_.begin(), sessions_.end(), row.session))
    refuse(at, fmt::format("session is {}, which is not there", row.session));
  count_in(at, "stage", row.stage, 0, 1);
  count_in(at, "audited", row.audited, 0, 1);
  count_in(at, "path", row.path, 0, 1);
  count_in(at, "faults_masked", row.faults_masked, 0, row.n_faults);
  count_in(at, "faults_stored", row.faults_stored, 0, 1);
}

void RowChecks::check_counts(const Place& at, const TrialRow& row) const {
  const std::uint64_t images = row.block < 0
                                   ? static_cast<std::uint64_t>(info_.models[row.model].images)
                                   : block_images_[static_cast<std::size_t>(row.block)];
  count_in(at, "images", row.images, images, images);
  check_outcomes(at, row);
}

void RowChecks::check(const Place& at, const TrialRow& row, const FaultRow& fault) const {
  const std::vector<TensorInfo>& tensors = info_.models[row.model].tensors;
  names_row(at, "tensor", fault.tensor, tensors.size());
  const TensorInfo& tensor = tensors[fault.tensor];
  count_in(at, "kind", fault.kind, tensor.kind, tensor.kind);
  names_row(at, "element", fault.element, tensor.elements);
  count_in(at, "word_bits", fault.word_bits, tensor.word_bits, tensor.word_bits);
  names_row(at, "bit", fault.bit, fault.word_bits);
  number_in(at, "image", fault.image, -1, info_.models[row.model].images - 1);
  count_in(at, "effect", fault.effect, 0, 4);
  count_in(at, "length", fault.length, 1, std::uint64_t{fault.word_bits} - fault.bit);
  if (fault.image < 0)
    count_in(at, "outcome", fault.outcome, FaultRow::kNotTold, FaultRow::kNotTold);
  else if (fault.outcome != FaultRow::kNotTold)
    count_in(at, "outcome", fault.outcome, 0, 3);
}

void RowChecks::check(const Place& at, const AuditRow& row) const {
  names_row(at, "point", row.point, info_.points.size());
  names_row(at, "model", row.model, info_.models.size());
  count_in(at, "images", row.images, 1, static_cast<std::uint64_t>(info_.models[row.model].images));
  count_in(at, "mismatches", row.mismatches, 0, row.images);
  count_in(at, "near_ties", row.near_ties, 0, row.images);
  check_outcomes(at, row);
  share_in(at, "deviation", row.deviation, 0, INFINITY);
}

}  // namespace sentinel::store
