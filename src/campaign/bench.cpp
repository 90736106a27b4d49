#include <ATen/Parallel.h>
#include <algorithm>
#include <chrono>

#include "campaign/chunk_result.hpp"
#include "campaign/chunks.hpp"
#include "campaign/trial_runner.hpp"
#include "sentinel/campaign/campaign.hpp"
#include "sentinel/comm/pool.hpp"
#include "sentinel/core/hash.hpp"
#include "sentinel/models/model.hpp"
#include "sentinel/networks/device.hpp"
#include "sentinel/networks/network.hpp"

namespace sentinel {
namespace {

constexpr std::uint64_t kSeed = 1;
constexpr std::int64_t kImages = 64;
constexpr double kBer = 1e-5;

std::vector<NamedModel> bench_models(const Comm& comm, at::Device device) {
  std::vector<NamedModel> models(2);
  models[0].name = "unprotected";
  models[0].graph = initial_model("resnet20", 10, kSeed);
  const ChannelScores scores = importance_method("l2-norm")->score({models[0].graph});
  models[1].name = "hardened";
  models[1].graph = harden(models[0].graph, scores, {},
                           synthetic_dataset(Split::kTrain, kImages, kSeed), comm, device);
  return models;
}

/// Only what must never change with ranks, order or time.
void update(Sha256& hash, const TrialRecord& record) {
  const TrialRow& r = record.row;
  ByteWriter writer;
  writer.write(r.point);
  writer.write(r.id);
  for (std::uint32_t value : {r.model, r.n_faults, static_cast<std::uint32_t>(r.first_node)})
    writer.write(value);
  for (std::uint32_t value : values_of(r)) writer.write(value);
  for (const FaultRow& fault : record.faults)
    for (std::uint64_t value : {static_cast<std::uint64_t>(fault.tensor), fault.element,
                                static_cast<std::uint64_t>(fault.bit), fault.before, fault.after})
      writer.write(value);
  hash.update(writer.bytes().data(), writer.bytes().size());
}

std::string hash_rows(std::vector<TrialRecord>& records) {
  std::sort(records.begin(), records.end(), [](const TrialRecord& a, const TrialRecord& b) {
    return std::pair(a.row.id, a.row.model) < std::pair(b.row.id, b.row.model);
  });
  Sha256 hash;
  for (const TrialRecord& record : records) update(hash, record);
  return hash.hex();
}

}  // namespace

BenchReport run_bench(const Comm& comm, const Compute& compute, std::uint64_t trials) {
  const at::Device device = choose_device(comm, compute);
  EngineOptions options;
  options.device = device;
  TrialRunner runner(bench_models(comm, device), synthetic_dataset(Split::kTest, kImages, kSeed),
                     -1, {{BinomialFaults{kBer}, trials}}, kSeed, options);
  TrialSource source;
  source.ready = [trials] { return trials; };
  source.ended = [] { return true; };
  source.draw = [](std::uint64_t) { return TrialDraw(); };
  ChunkPlanner planner({source}, trials, comm.size(),
                       [](std::uint32_t, std::uint64_t) { return false; });
  std::vector<TrialRecord> records;
  const auto start = std::chrono::steady_clock::now();
  run_pool(
      comm,
      [&] {
        auto chunk = planner.next();
        return chunk ? std::optional(chunk->encode()) : std::nullopt;
      },
      [&](const Bytes& bytes) {
        at::set_num_threads(compute.threads);
        return runner.run(0, Chunk::decode(bytes).tasks).encode();
      },
      [&](const Bytes& bytes) {
        for (TrialRecord& record : ChunkResult::decode(bytes).records) {
          if (record.row.model == 0) planner.measured(0, 2e-6 * record.row.wall_us);
          records.push_back(std::move(record));
        }
      });
  BenchReport report;
  report.trials = trials;
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  report.rows_sha256 = hash_rows(records);
  return report;
}

}  // namespace sentinel
