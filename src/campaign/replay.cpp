#include "sentinel/campaign/replay.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "campaign/build.hpp"
#include "campaign/chunk_result.hpp"
#include "campaign/chunks.hpp"
#include "campaign/result_info.hpp"
#include "campaign/run_trials.hpp"
#include "campaign/sampling.hpp"
#include "sentinel/campaign/fault_lists.hpp"
#include "sentinel/campaign/validation.hpp"
#include "sentinel/comm/pool.hpp"
#include "sentinel/core/hash.hpp"
#include "sentinel/core/json.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/graph/outputs.hpp"
#include "sentinel/networks/device.hpp"
#include "sentinel/networks/network.hpp"
#include "sentinel/store/differences.hpp"
#include "sentinel/store/result_file.hpp"

namespace sentinel {
namespace {

using TrialKey = std::pair<std::uint32_t, std::uint64_t>;  // point, id
using TrialRecords = std::map<TrialKey, std::vector<TrialRecord>>;

TrialKey key_of(const TrialRow& row) {
  return {row.point, row.id};
}

/// The rows of every model of the chosen trials.
TrialRecords read_trials(const std::string& path, const ResultInfo& info,
                         const TrialChoice& choice) {
  const std::set<TrialKey> chosen = choose_trials(path, choice);
  TrialRecords trials;
  for (TrialRecord& record :
       read_records(path, [&](const TrialRow& row) { return chosen.count(key_of(row)) > 0; }))
    trials[key_of(record.row)].push_back(std::move(record));
  for (const auto& [key, records] : trials) {
    bool whole = key.first < info.points.size() && records.size() == info.models.size();
    for (std::size_t m = 0; m < records.size(); ++m) whole = whole && records[m].row.model == m;
    if (!whole)
      throw DataError(path, fmt::format("trial {} of point {} has not one row of every model; the "
                                        "file is damaged",
                                        key.second, key.first));
  }
  return trials;
}

/// The networks that the job made lie beside the result, which may have been moved with them, or
/// where they were kept when it ran.
void find_made_models(Job& job, const std::string& result) {
  const auto all_there = [](const Job& candidate) {
    const std::vector<std::string> paths = made_paths(candidate);
    return std::all_of(paths.begin(), paths.end(),
                       [](const std::string& path) { return std::filesystem::exists(path); });
  };
  Job beside = job;
  beside.output = result;
  if (all_there(beside) || !all_there(job)) job.output = result;
}

/// The list of faults lies where it was, or beside the result. On rank 0. DataError where it does
/// not, or is another one.
void find_list(Job& job, const std::string& result, const ResultInfo& info) {
  std::string& path = job.faults.list;
  if (path.empty()) return;
  const std::string beside =
      (std::filesystem::path(result).parent_path() / std::filesystem::path(path).filename())
          .string();
  std::error_code none;
  std::string why = "is missing";
  for (const std::string& candidate : {path, beside}) {
    if (!std::filesystem::exists(candidate, none)) continue;
    const Bytes bytes = read_fault_list(candidate);
    const auto stored = info.fingerprint_parts.find("list");
    if (stored != info.fingerprint_parts.end() &&
        stored->second == sha256_hex(bytes.data(), bytes.size())) {
      path = candidate;
      return;
    }
    why = "has changed since";
  }
  throw DataError(path, why + ": the list of faults of " + result +
                            "; put the former one there again, or beside the result");
}

/// The trial that the row of a model names.
Chunk chunk_of(const TrialRow& row) {
  return {row.point, {{row.id, {row.stage, row.stratum, row.probability}}}};
}

/// All stored trials once more; complete on rank 0 only.
TrialRecords run_all(const Comm& comm, const TrialRecords& stored, TrialRunner& runner,
                     int threads) {
  TrialRecords again;
  auto next = stored.begin();
  run_pool(
      comm,
      [&]() -> std::optional<Bytes> {
        if (next == stored.end()) return std::nullopt;
        return chunk_of((next++)->second.front().row).encode();
      },
      [&](const Bytes& chunk) { return work_on(chunk, runner, comm, threads); },
      [&](const Bytes& result) {
        std::vector<TrialRecord> records = ChunkResult::decode(result).records;
        const TrialKey key = key_of(records.front().row);
        again[key] = std::move(records);
      });
  return again;
}

/// "cpu AVX2": what ran a row, by what its session says of itself; empty where it does not.
std::string platform_of(const std::string& session_info, const TrialRow& row) {
  if (!json_excess(session_info).empty()) return "";
  try {
    const auto info = nlohmann::json::parse(session_info);
    const std::string rank = info.at("ranks").at(row.rank);  // "host cuda:0"
    const std::string device = rank.substr(rank.rfind(' ') + 1);
    return device.substr(0, device.find(':')) + " " + info.at("instruction_set").get<std::string>();
  } catch (const nlohmann::json::exception&) {
    return "";
  }
}

std::string engine_of(const TrialRow& row) {
  return engine_name(static_cast<EnginePath>(row.path));
}

/// Without what another machine or engine may round otherwise: the words of outputs, and whether an
/// image is masked.
std::vector<FaultRow> but_for_rounding(std::vector<FaultRow> faults) {
  constexpr auto kMasked = static_cast<std::uint8_t>(ImageOutcome::kMasked),
                 kNoncritical = static_cast<std::uint8_t>(ImageOutcome::kSdcNoncritical);
  for (FaultRow& fault : faults) {
    if (is_output(static_cast<TensorClass>(fault.kind))) fault.before = fault.after = 0;
    if (fault.outcome == kMasked) fault.outcome = kNoncritical;
  }
  return faults;
}

std::vector<std::string> compare(const TrialRecord& stored, const TrialRecord& replayed,
                                 bool bitwise) {
  std::vector<Difference> found = differences(stored.row, replayed.row);
  if (!bitwise) {
    found.erase(std::remove_if(found.begin(), found.end(),
                               [](const Difference& difference) {
                                 return difference.column == "masked" ||
                                        difference.column == "sdc_noncritical";
                               }),
                found.end());
  }
  if (stored.row.faults_stored != 0 && replayed.row.faults_stored != 0)
    for (Difference& difference :
         bitwise ? differences(stored.faults, replayed.faults)
                 : differences(but_for_rounding(stored.faults), but_for_rounding(replayed.faults)))
      found.push_back(std::move(difference));
  std::vector<std::string> texts;
  texts.reserve(found.size());
  for (const Difference& d : found)
    texts.push_back(fmt::format("{}: {} -> {}", d.column, d.first, d.second));
  return texts;
}

/// Compares rows, and tells those that another kind of machine or engine made.
class Comparison {
 public:
  Comparison(const std::vector<SessionRow>& sessions, std::string here) : here_(std::move(here)) {
    for (const SessionRow& session : sessions) sessions_[session.number] = session.info;
  }

  ReplayedRow operator()(const TrialRecord& stored, const TrialRecord& replayed) {
    const std::string before = platform_of(sessions_[stored.row.session], stored.row);
    const std::string now = platform_of(here_, replayed.row);
    ReplayedRow row{stored.row, replayed.row, false, {}};
    row.bitwise = !before.empty() && before == now && stored.row.path == replayed.row.path;
    row.differences = compare(stored, replayed, row.bitwise);
    if (!row.bitwise) {
      ++others_;
      kinds_.insert(fmt::format("{} {} -> {} {}", before.empty() ? "unknown" : before,
                                engine_of(stored.row), now, engine_of(replayed.row)));
    }
    return row;
  }

  std::string note() const {
    if (others_ == 0) return "";
    return fmt::format(
        "{} rows came from another device, instruction set or engine ({}): the split of masked and "
        "SDC-non-critical images and the words of outputs are not compared, and near ties of two "
        "logits may fall otherwise",
        others_, fmt::join(kinds_, ", "));
  }

 private:
  std::map<std::uint32_t, std::string> sessions_;
  std::string here_;
  std::uint64_t others_ = 0;
  std::set<std::string> kinds_;
};

ReplayReport compare_all(const TrialRecords& stored, const TrialRecords& again,
                         Comparison compare_rows) {
  ReplayReport report;
  for (const auto& [key, records] : stored) {
    bool same = true;
    for (std::size_t m = 0; m < records.size(); ++m) {
      report.rows.push_back(compare_rows(records[m], again.at(key).at(m)));
      same = same && report.rows.back().differences.empty();
    }
    ++report.trials;
    report.identical += same ? 1 : 0;
  }
  report.note = compare_rows.note();
  return report;
}

/// A replay on another device may run another number of trials at once.
ResultInfo on_any_device(ResultInfo wanted, const ResultInfo& stored) {
  wanted.fingerprint_parts.erase(kTrialsAtOncePart);
  const auto found = stored.fingerprint_parts.find(kTrialsAtOncePart);
  if (found != stored.fingerprint_parts.end()) wanted.fingerprint_parts.insert(*found);
  return wanted;
}

}  // namespace

ReplayReport run_replay(const Comm& comm, const ReplayJob& replay) {
  Job job = replay.job;
  job.fresh = false;  // it made its networks then; now they are only read
  at::Device device = at::kCPU;
  comm.agree([&] {
    validate(job);
    device = choose_device(comm, job.compute);
    find_made_models(job, replay.result);
  });
  ResultFile outline;   // rank 0 only
  TrialRecords stored;  // rank 0 only
  comm.from_root([&] {
    outline = read_result_outline(replay.result);
    find_list(job, replay.result, outline.info);
    stored = read_trials(replay.result, outline.info, replay.trials);
    return Bytes();
  });
  const Built built = reload(comm, job);
  TrialPlan plan{"replay", built.models, built.images, {}, {}};
  comm.agree([&] { plan.points = planned_points(job, built.models, built.list); });
  Job own = job;
  own.engine = replay.engine.value_or(job.engine);
  own.faults.stored = FaultsStored::kYes;
  own.audit.reset();  // of the job; a replay is one itself
  std::optional<TrialRunner> runner;
  comm.agree([&] {
    validate(own);
    runner.emplace(make_runner(comm, own, plan, device));
  });
  comm.from_root([&] {
    check_fingerprint(replay.result, outline.info.fingerprint, outline.info.fingerprint_parts,
                      on_any_device(describe(job, plan, *runner), outline.info),
                      "give the " + spelled(Setting::kCheckpoint) + " and " +
                          spelled(Setting::kData) + " that it was made with");
    return Bytes();
  });
  const SessionInfo here = describe_session(comm, own, device);
  const TrialRecords again = run_all(comm, stored, *runner, own.compute.threads);
  ReplayReport report = compare_all(stored, again, Comparison(outline.sessions, here.info));
  for (const NamedModel& model : built.models) report.models.push_back(model.name);
  report.info = std::move(outline.info);
  if (replay.keeps_records)
    for (const auto& [key, records] : again)
      report.records.insert(report.records.end(), records.begin(), records.end());
  return report;
}

}  // namespace sentinel
