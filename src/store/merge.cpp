#include "sentinel/store/merge.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <tuple>

#include "sentinel/core/error.hpp"
#include "sentinel/core/file.hpp"
#include "sentinel/core/sampling_words.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/core/stop.hpp"
#include "sentinel/store/result_file.hpp"
#include "sentinel/store/result_store.hpp"
#include "store/background.hpp"
#include "store/h5.hpp"
#include "store/lock.hpp"
#include "store/merge_records.hpp"
#include "store/result_writer.hpp"
#include "store/working_files.hpp"

namespace sentinel {
namespace {

namespace fs = std::filesystem;
using store::MergeInput;

void check_output(const std::vector<std::string>& inputs, const std::string& output) {
  if (inputs.empty()) throw UserError("nothing to merge: name the results of one campaign");
  for (const std::string& input : inputs)
    if (same_file(input, output))
      throw UserError(output + " is one of the results to merge; give another " +
                      spelled(Setting::kOutput));
}

ResultFile read_output(const std::string& output) {
  try {
    return read_result_outline(output);
  } catch (const DataError&) {
    throw DataError(
        output, "is there already and is no result of sentinelnn that can be read; give another " +
                    spelled(Setting::kOutput) + ", or remove the file");
  }
}

void check_plan(const std::string& path, const ResultInfo& info) {
  for (const PlanInfo& plan : info.plans)
    if (is_adaptive(sampling_of(plan.sampling).sampling))
      throw UserError(path + " has an adaptive plan (" + plan.sampling +
                      " sampling), whose trials depend on those before them, so that parts of it "
                      "cannot be joined; run such a campaign into one result");
}

template <class Row>
std::vector<std::string> names_of(const std::vector<Row>& rows, std::string Row::*name) {
  std::vector<std::string> names;
  names.reserve(rows.size());
  for (const Row& row : rows) names.push_back(row.*name);
  return names;
}

/// Networks and rates are the same, and so is what a code makes of them, but for last bits of other
/// machines' functions: the larger holds, whatever the order of the parts.
void join_bounds(const std::string& path, const std::vector<BoundInfo>& bounds,
                 const std::string& first_path, std::vector<BoundInfo>& joined) {
  constexpr double kRounding = 1e-9;  // relative
  const auto same = [](const BoundInfo& a, const BoundInfo& b) {
    return a.point == b.point && a.model == b.model &&
           std::abs(a.bound - b.bound) <= kRounding * std::max(a.bound, b.bound);
  };
  if (!std::equal(bounds.begin(), bounds.end(), joined.begin(), joined.end(), same))
    throw DataError(path, "has other rows in /design/bounds than " + first_path +
                              "; both are of one campaign, so one of them is damaged");
  for (std::size_t i = 0; i < bounds.size(); ++i)
    joined[i].bound = std::max(joined[i].bound, bounds[i].bound);
}

std::size_t model_count(const PointInfo& point) {
  return 1 + static_cast<std::size_t>(std::count(point.models.begin(), point.models.end(), ','));
}

std::vector<std::size_t> model_counts(const ResultInfo& info) {
  std::vector<std::size_t> counts;
  for (const PointInfo& point : info.points) counts.push_back(model_count(point));
  return counts;
}

void check_same_schema(const std::string& path, const ResultInfo& info,
                       const std::string& first_path, const ResultInfo& first) {
  if (info.schema != first.schema)
    throw UserError(path + " has schema " + std::to_string(info.schema) + " and " + first_path +
                    " has schema " + std::to_string(first.schema) +
                    "; only parts of the same schema can be merged");
}

/// Whether the parts are of one campaign, whatever their numbers of trials.
void check_same_campaign(const std::string& path, const ResultInfo& info,
                         const std::string& first_path, const ResultInfo& first) {
  check_fingerprint(path, info.fingerprint, info.fingerprint_parts, first,
                    "only results of the job of " + first_path + " can be merged with it");
  if (info.confidence != first.confidence)
    throw UserError(path + " has intervals of another " + spelled(Setting::kConfidence) + " than " +
                    first_path + "; run its command again with the same one");
  // Networks by their number: another version may have named them otherwise.
  if (info.models.size() != first.models.size() ||
      names_of(info.points, &PointInfo::fault_model) !=
          names_of(first.points, &PointInfo::fault_model) ||
      names_of(info.strata, &StratumInfo::name) != names_of(first.strata, &StratumInfo::name) ||
      model_counts(info) != model_counts(first))
    throw DataError(path, "has other models or points than " + first_path +
                              " although it is of the same job; the file is damaged, leave it out");
}

void plan_most(std::vector<PointInfo>& points, const std::vector<PointInfo>& others) {
  for (std::size_t p = 0; p < points.size(); ++p)
    points[p].trials = std::max(points[p].trials, others[p].trials);
}

void warn_of_journals(const std::string& path) {
  if (store::has_journals(link_target(path)))
    spdlog::warn(
        "{} has journals beside it: what its campaign stored since it last published the "
        "file is not merged",
        path);
}

/// What tells an incarnation from all others; a file merged or copied earlier may know it by
/// another number or before its end.
auto identity(const SessionRow& session) {
  return std::tie(session.started, session.host, session.ranks, session.info);
}

/// The sessions of all inputs by their start, numbered from 0.
class Sessions {
 public:
  void add(const std::vector<SessionRow>& sessions) {
    for (const SessionRow& session : sessions) {
      const auto at = place(session);
      if (at == all_.end() || identity(*at) != identity(session)) {
        all_.insert(at, session);
        continue;
      }
      at->ended = std::max(at->ended, session.ended);
      at->new_trials = std::max(at->new_trials, session.new_trials);
    }
  }

  /// Number in the file -> number here, once all are added.
  std::map<std::uint32_t, std::uint32_t> numbers(const std::vector<SessionRow>& sessions) {
    std::map<std::uint32_t, std::uint32_t> numbers;
    for (const SessionRow& session : sessions)
      numbers[session.number] = static_cast<std::uint32_t>(place(session) - all_.begin());
    return numbers;
  }

  std::vector<SessionRow> rows() const {
    std::vector<SessionRow> rows = all_;
    for (std::size_t i = 0; i < rows.size(); ++i) rows[i].number = static_cast<std::uint32_t>(i);
    return rows;
  }

 private:
  std::vector<SessionRow>::iterator place(const SessionRow& session) {
    return std::lower_bound(
        all_.begin(), all_.end(), session,
        [](const SessionRow& a, const SessionRow& b) { return identity(a) < identity(b); });
  }
  std::vector<SessionRow> all_;
};

}  // namespace

struct ResultMerge::State {
  using AuditKey = std::tuple<std::uint32_t, std::uint64_t, std::uint32_t>;

  State(const std::vector<std::string>& paths, const std::string& to);
  void take(const std::string& path, ResultFile outline);
  void count(const std::vector<TrialRow>& trial);
  std::uint64_t first(std::size_t point) const {
    return point < info.plans.size() ? info.plans[point].first : 0;
  }
  std::uint64_t wanted(std::size_t point) const { return info.points[point].trials - first(point); }
  bool is_answered(std::size_t point) const {
    return done[point] == wanted(point) || is_bounded(info, static_cast<std::uint32_t>(point));
  }
  std::uint64_t each_record(const std::function<void(const store::PackedRecord&)>& visit) const {
    const auto is_audited = [this](const TrialRow& row) {
      return audit.count(AuditKey{row.point, row.id, row.model}) > 0;
    };
    return store::merge_records(inputs, is_audited, [&](const store::PackedRecord& record) {
      require_not_stopped();
      visit(record);
    });
  }

  StopWatch watch;  // a signal must not leave the lock, nor a file half written
  std::string output;
  std::vector<MergeInput> inputs;
  std::vector<std::vector<SessionRow>> their_sessions;  // by input
  Sessions sessions;
  ResultInfo info;
  std::map<AuditKey, AuditRow> audit;
  std::vector<std::uint64_t> done;  // planned trials that are stored, by point
  MergeReport report;

  store::ResultLock lock;
  store::OwnFile file;
  store::Keeper keeper;
};

ResultMerge::State::State(const std::vector<std::string>& paths, const std::string& to)
    : output(link_target(to)),
      lock(output, StoreOptions().lock_wait),
      file(output),
      keeper([this] { lock.heartbeat(); }, StoreOptions().sync) {
  for (const std::string& path : paths) {
    require_not_stopped();
    take(path, read_result_outline(path));
  }
  if (fs::exists(output)) take(output, read_output(output));
  store::remove_temporaries(output, info.fingerprint);
  for (std::size_t i = 0; i < inputs.size(); ++i)
    inputs[i].sessions = sessions.numbers(their_sessions[i]);
  done.resize(info.points.size());
  for (std::size_t p = 0; p < info.points.size(); ++p) report.planned += wanted(p);
}

void ResultMerge::State::take(const std::string& path, ResultFile outline) {
  check_plan(path, outline.info);
  if (inputs.empty()) {
    info = std::move(outline.info);
  } else {
    check_same_schema(path, outline.info, inputs.front().path, info);
    check_same_campaign(path, outline.info, inputs.front().path, info);
    join_bounds(path, outline.info.bounds, inputs.front().path, info.bounds);
    plan_most(info.points, outline.info.points);
  }
  for (std::size_t p = 0; p < std::min(info.plans.size(), outline.info.plans.size()); ++p)
    info.plans[p].first = std::min(info.plans[p].first, outline.info.plans[p].first);
  warn_of_journals(path);
  for (const AuditRow& row : outline.audit) {
    AuditRow& kept = audit.emplace(AuditKey{row.point, row.id, row.model}, row).first->second;
    // Audits on other machines may find other deviations: a mismatch must not get lost.
    if (row.mismatches > kept.mismatches) kept = row;
  }
  sessions.add(outline.sessions);
  their_sessions.push_back(std::move(outline.sessions));
  inputs.push_back({path, {}});
}

void ResultMerge::State::count(const std::vector<TrialRow>& trial) {
  const TrialRow& row = trial.front();
  const PointInfo& point = info.points.at(row.point);
  if (trial.size() != model_count(point))
    throw DataError(output, store::name_of(row) +
                                " would lack the row of a model; an input is "
                                "damaged");
  ++report.trials;
  if (row.id >= first(row.point) && row.id < point.trials) ++done[row.point];
}

ResultMerge::ResultMerge(const std::vector<std::string>& inputs, const std::string& output) {
  check_output(inputs, output);
  state_ = std::make_unique<State>(inputs, output);
}

ResultMerge::~ResultMerge() = default;

const ResultInfo& ResultMerge::info() const {
  return state_->info;
}

void ResultMerge::each_trial(const std::function<void(const std::vector<TrialRow>&)>& visit) {
  const h5::Guard guard;
  std::vector<TrialRow> trial;
  const auto finish = [&] {
    if (trial.empty()) return;
    state_->count(trial);
    visit(trial);
    trial.clear();
  };
  state_->report.duplicates = state_->each_record([&](const store::PackedRecord& record) {
    const TrialRow row = record.row();
    if (!trial.empty() && (trial[0].point != row.point || trial[0].id != row.id)) finish();
    trial.push_back(row);
  });
  finish();
}

MergeReport ResultMerge::write(std::vector<EstimateRow> estimates) {
  State& state = *state_;
  store::ResultContents contents;
  contents.complete = state.report.complete = true;
  for (std::size_t p = 0; p < state.done.size(); ++p)
    if (!state.is_answered(p)) contents.complete = state.report.complete = false;
  contents.sessions = state.sessions.rows();
  contents.findings.plans = state.info.plans;
  for (PlanInfo& plan : contents.findings.plans) {
    const std::uint64_t done = state.done.at(plan.point);
    plan.used = is_bounded(state.info, plan.point) ? 0 : done;
    plan.reached = state.is_answered(plan.point) ? 1 : 0;
  }
  contents.findings.estimates = std::move(estimates);
  for (const auto& [key, row] : state.audit) contents.audit.push_back(row);
  contents.each_record = [&](const auto& visit) { state.each_record(visit); };
  contents.before_rename = [&] { state.lock.heartbeat(); };
  state.keeper.rethrow();
  store::publish_result(state.file, state.info, contents);
  return state.report;
}

}  // namespace sentinel
