#include "sentinel/campaign/campaign.hpp"

#include <ATen/Parallel.h>
#include <fcntl.h>
#include <spdlog/spdlog.h>

#include <array>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <optional>

#include "campaign/build.hpp"
#include "campaign/describe.hpp"
#include "campaign/memory.hpp"
#include "campaign/plan.hpp"
#include "campaign/records.hpp"
#include "sentinel/comm/pool.hpp"
#include "sentinel/core/file.hpp"
#include "sentinel/core/log.hpp"
#include "sentinel/core/stop.hpp"
#include "sentinel/models/model.hpp"
#include "sentinel/store/result_store.hpp"

namespace sentinel {
namespace {

/// Before any work; --fresh must not remove what was never a result.
void check_outputs(const Job& job) {
  require_writable(job.output);
  require_distinct(job.output, {job.selection.checkpoint});
  for (const std::string& path : made_paths(job)) {
    require_writable(path);
    require_distinct(path, {job.selection.checkpoint, job.output});
  }
  if (!std::filesystem::exists(job.output)) return;
  std::array<char, 4> magic{};
  const FileHandle file(job.output, O_RDONLY);
  file.read_at(magic.data(), magic.size(), 0);
  if (std::string_view(magic.data(), magic.size()) != "\x89HDF")
    throw DataError(job.output, "is there already and is no result file; give another --output");
}

EngineOptions engine_options(const Comm& comm, const Job& job, at::Device device) {
  EngineOptions options;
  options.block = job.block;
  options.device = device;
  options.reference_only = job.engine == "reference";
  options.cache_budget = job.cache_budget_gib > 0
                             ? static_cast<std::uint64_t>(job.cache_budget_gib * (1ull << 30))
                             : memory_of_node() / static_cast<std::uint64_t>(comm.local_size()) / 2;
  return options;
}

/// floor(BER * bits) is 0 in small layers: they never fail, whatever the figures say.
void warn_of_spared_layers(const std::vector<Sampler>& points, const FaultSpace& space) {
  for (const Sampler& sampler : points) {
    std::string spared;
    const std::vector<double> expected = expected_faults(sampler, space);
    for (std::size_t t = 0; t < expected.size(); ++t)
      if (expected[t] == 0 && sampler_ber(sampler) > 0) spared += " " + space.tensors()[t].name;
    if (!spared.empty())
      spdlog::warn("{} at BER {:g} never flips a bit of:{}", sampler_name(sampler),
                   sampler_ber(sampler), spared);
  }
}

/// Rank 0's side of a campaign: what is stored, what is missing, what is known so far.
class Ledger {
 public:
  Ledger(const Job& job, ResultInfo info, SessionInfo session, int workers)
      : points_(static_cast<std::uint32_t>(info.points.size())),
        models_(info.models.size()),
        planned_(points_ * job.trials),
        estimates_(std::vector<bool>(points_, job.fault_count == "binomial"), models_,
                   job.confidence),
        store_(job.output, std::move(info), std::move(session), options(job)) {
    recall(job.trials);
    planner_.emplace(
        points_, job.trials, planned_ - done_, workers,
        [this](std::uint32_t point, std::uint64_t id) { return store_.has(point, id); });
    progress_.emplace("inject", "trials", planned_, done_);
    if (done_ > 0)
      spdlog::info("{}: {} of {} trials are stored already", job.output, done_, planned_);
  }

  std::optional<Bytes> next() {
    if (stop_signal() != 0) return std::nullopt;
    const auto chunk = planner_->next();
    return chunk ? std::optional(chunk->encode()) : std::nullopt;
  }

  void sink(const Bytes& result) {
    std::vector<TrialRecord> records = decode_records(result);
    for (TrialRecord& record : records) record.row.session = store_.session();
    store_.append(records);
    for (std::size_t first = 0; first < records.size(); first += models_) add(records, first);
    refresh_estimates();
    progress_->update(done_, estimates_.headline(records.back().row.point));
  }

  /// Publishes; kDone or the code of the stop.
  ExitCode finish() {
    progress_.reset();
    store_.set_estimates(estimates_.estimates());
    store_.finish(done_ == planned_);
    if (done_ == planned_) return ExitCode::kDone;
    spdlog::warn(
        "stopped by signal {}: {} of {} trials are stored; run the same command again to go on",
        stop_signal(), done_, planned_);
    return stop_code();
  }

 private:
  static StoreOptions options(const Job& job) {
    StoreOptions options;
    options.fresh = job.fresh;
    options.publish = std::chrono::seconds(job.publish_seconds);
    return options;
  }

  /// Takes the rows of earlier incarnations into the estimates.
  void recall(std::uint64_t trials) {
    std::vector<TrialRow> trial;
    store_.for_each([&](const TrialRow& row) {
      trial.push_back(row);
      if (trial.size() < models_) return;
      // A finished campaign with more trials may be shortened: rows beyond are kept and not used.
      if (row.id < trials) {
        estimates_.add(trial);
        ++done_;
      }
      trial.clear();
    });
  }

  void add(const std::vector<TrialRecord>& records, std::size_t first) {
    std::vector<TrialRow> trial;
    double seconds = 0;
    for (std::size_t m = 0; m < models_; ++m) {
      trial.push_back(records.at(first + m).row);
      seconds += 1e-6 * trial.back().wall_us;
    }
    planner_->measured(seconds);
    estimates_.add(trial);
    ++done_;
  }

  void refresh_estimates() {
    const auto now = std::chrono::steady_clock::now();
    if (now - refreshed_ < std::chrono::seconds(1)) return;
    refreshed_ = now;
    store_.set_estimates(estimates_.estimates());
  }

  std::uint32_t points_;
  std::size_t models_;
  std::uint64_t planned_, done_ = 0;
  EstimateBuilder estimates_;
  ResultStore store_;
  std::optional<ChunkPlanner> planner_;
  std::optional<Progress> progress_;
  std::chrono::steady_clock::time_point refreshed_{};
};

Bytes work_on(const Bytes& bytes, TrialRunner& runner, const Comm& comm, int threads) {
  // The pool's thread on rank 0 has a thread count of its own.
  at::set_num_threads(threads);
  const Chunk chunk = Chunk::decode(bytes);
  std::vector<TrialRecord> records;
  for (std::uint64_t id : chunk.ids)
    for (TrialRecord& record : runner.run(chunk.point, id)) {
      record.row.rank = static_cast<std::uint32_t>(comm.rank());
      records.push_back(std::move(record));
    }
  return encode_records(records);
}

}  // namespace

ExitCode run_campaign(const Comm& comm, const Job& job) {
  at::Device device = at::kCPU;
  comm.agree([&] {
    validate(job);
    if (job.dedicated_driver && comm.size() == 1)
      throw UserError(
          "--dedicated-driver needs at least two ranks; start with mpirun -n 2 or more");
    device = choose_device(comm, job.compute);
  });
  comm.from_root([&] {
    check_outputs(job);
    return Bytes();
  });
  Built built = build(comm, job, device);
  std::optional<TrialRunner> runner;
  comm.agree([&] {
    runner.emplace(built.models, built.images.batch(0, built.images.size()), points_of(job),
                   job.seed, engine_options(comm, job, device));
    // More faults than bits, say, is known only now; better before the result is begun.
    for (std::uint32_t point = 0; point < points_of(job).size(); ++point)
      for (std::size_t model = 0; model < built.models.size(); ++model)
        runner->faults(point, 0, model);
  });
  const SessionInfo session = describe_session(comm, job, device);
  std::optional<Ledger> ledger;  // rank 0 only
  comm.from_root([&] {
    ledger.emplace(job, describe(job, built.models, *runner, built.images, built.scores), session,
                   comm.size() - (job.dedicated_driver ? 1 : 0));
    write_made(job, built.models);
    warn_of_spared_layers(points_of(job), runner->engine(0).space());
    return Bytes();
  });
  run_pool(
      comm, [&] { return ledger->next(); },
      [&](const Bytes& chunk) { return work_on(chunk, *runner, comm, job.compute.threads); },
      [&](const Bytes& result) { ledger->sink(result); }, {job.dedicated_driver});
  return code_of_root(comm, [&] { return ledger->finish(); });
}

}  // namespace sentinel
