// The driver alone: trials that cost nothing, through run_pool and ResultStore, as a campaign does.
//   for n in 1 2 8 64; do mpirun --oversubscribe -n $n build/release/tests/bench_driver; done
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "campaign/chunk_result.hpp"
#include "sentinel/comm/pool.hpp"
#include "sentinel/core/rng.hpp"
#include "sentinel/store/result_store.hpp"

namespace sentinel {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr std::uint64_t kMaxTrials = 200000, kMaxChunks = 10000;  // of a measurement
constexpr int kRounds = 3;                                        // medians of so many

struct Load {
  std::uint64_t chunk;   // trials handed out at once
  std::uint32_t faults;  // per trial
  bool dedicated;
  std::uint64_t trials() const { return std::min(kMaxTrials, kMaxChunks * chunk); }
};

struct Measured {
  double wall = 0, driver_cpu = 0;           // [s] while trials run
  double publish_wall = 0, publish_cpu = 0;  // [s]
  double journal_bytes = 0, result_bytes = 0;
};

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

/// [s] of processor time, user and system, that this thread has used.
double thread_cpu() {
  rusage usage{};
  getrusage(RUSAGE_THREAD, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

/// What a trial of a ResNet-20 might look like; as hard to compress.
TrialRecord fake_trial(std::uint64_t id, std::uint32_t faults, std::uint32_t rank) {
  Rng rng({1, 0, id, Purpose::kFaults});
  TrialRecord record;
  TrialRow& row = record.row;
  row.id = id;
  row.n_faults = faults;
  row.first_node = static_cast<std::int32_t>(rng.below(70));
  row.images = 256;
  row.masked = static_cast<std::uint32_t>(rng.below(257));
  row.sdc_critical = 256 - row.masked;
  row.correct = row.correct_argmax = row.top5 = row.masked;
  row.path = 1;
  row.wall_us = 50000 + static_cast<std::uint32_t>(rng.below(10000));
  row.rank = rank;
  for (std::uint32_t f = 0; f < faults; ++f) {
    const std::uint32_t word = 0x3c000000U | (rng.bits32() & 0x80ffffffU);
    const auto bit = static_cast<std::uint8_t>(rng.below(32));
    record.faults.push_back({0, static_cast<std::uint32_t>(rng.below(22)), rng.below(36864), 32,
                             bit, word, word ^ (1U << bit)});
  }
  return record;
}

Bytes encode_ids(std::uint64_t first, std::uint64_t count, const ResultStore& store) {
  std::vector<std::uint64_t> ids;
  for (std::uint64_t id = first; id < first + count; ++id)
    if (!store.has(0, id)) ids.push_back(id);
  ByteWriter writer;
  writer.vector(ids);
  return writer.take();
}

Bytes work_on(const Bytes& chunk, std::uint32_t faults, int rank) {
  ByteReader reader(chunk, "chunk");
  std::vector<TrialRecord> records;
  for (const std::uint64_t id : read_vector<std::uint64_t>(reader))
    records.push_back(fake_trial(id, faults, static_cast<std::uint32_t>(rank)));
  return ChunkResult{std::move(records), {}, 0}.encode();
}

ResultInfo fake_info() {
  ResultInfo info;
  info.fingerprint = "bench";
  ModelInfo model;
  model.name = "unprotected";
  info.models = {model};
  info.points = {{0, "T2", "binomial", 1e-6, kMaxTrials, ""}};
  return info;
}

void run_trials(const Comm& comm, const Load& load, ResultStore* store, Measured& measured) {
  std::uint64_t next = 0;
  const auto begin = Clock::now();
  const double cpu = thread_cpu();
  run_pool(
      comm,
      [&]() -> std::optional<Bytes> {
        if (next >= load.trials()) return std::nullopt;
        const std::uint64_t first = next;
        next += std::min(load.chunk, load.trials() - first);
        return encode_ids(first, next - first, *store);
      },
      [&](const Bytes& chunk) { return work_on(chunk, load.faults, comm.rank()); },
      [&](const Bytes& result) { store->append(ChunkResult::decode(result).records); },
      {load.dedicated});
  measured.driver_cpu = thread_cpu() - cpu;
  measured.wall = seconds_since(begin);
}

Measured measure_root(const Comm& comm, const Load& load, const std::string& path) {
  StoreOptions options;
  options.publish = std::chrono::hours(1);  // at the end only, measured by itself
  ResultStore store(path, fake_info(), {}, options);
  const auto empty = static_cast<double>(fs::file_size(path));
  Measured measured;
  run_trials(comm, load, &store, measured);
  measured.journal_bytes = static_cast<double>(fs::file_size(path + ".journal.0"));
  const auto begin = Clock::now();
  const double cpu = thread_cpu();
  store.finish(true);
  measured.publish_wall = seconds_since(begin);
  measured.publish_cpu = thread_cpu() - cpu;
  measured.result_bytes = static_cast<double>(fs::file_size(path)) - empty;
  return measured;
}

Measured measure(const Comm& comm, const Load& load, const std::string& path) {
  Measured measured;
  if (comm.rank() == 0)
    measured = measure_root(comm, load, path);
  else
    run_trials(comm, load, nullptr, measured);
  if (comm.rank() == 0) fs::remove(path);
  return measured;
}

double median(const std::array<Measured, kRounds>& rounds, double Measured::*value) {
  std::array<double, kRounds> values{};
  for (std::size_t r = 0; r < kRounds; ++r) values[r] = rounds[r].*value;
  std::sort(values.begin(), values.end());
  return values[kRounds / 2];
}

void print_row(const Comm& comm, const Load& load, const std::array<Measured, kRounds>& rounds) {
  const auto of = [&](double Measured::*value) { return median(rounds, value); };
  const auto trials = static_cast<double>(load.trials());
  const auto chunks = trials / static_cast<double>(load.chunk);
  const double cpu = of(&Measured::driver_cpu), million = 1e6 / trials;
  std::printf("| %d | %s | %lu | %u | %.0f | %.0f | %.2f | %.2f | %.0f | %.0f | %.1f | %.1f |\n",
              comm.size(), load.dedicated ? "yes" : "no", load.chunk, load.faults,
              trials / of(&Measured::wall), trials / cpu, 1e6 * cpu / chunks, 1e6 * cpu / trials,
              of(&Measured::journal_bytes) / trials, of(&Measured::result_bytes) / trials,
              million * of(&Measured::publish_cpu), million * of(&Measured::publish_wall));
  std::fflush(stdout);
}

void print_head() {
  std::printf(
      "| ranks | dedicated | trials/chunk | faults/trial | trials/s | trials per s of the driver's "
      "CPU | CPU µs/chunk | CPU µs/trial | journal B/trial | result B/trial | publication CPU s "
      "per "
      "10⁶ | wall s per 10⁶ |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n");
}

void bench(const Comm& comm, const std::string& folder) {
  if (comm.rank() == 0 && comm.size() == 1) print_head();
  for (const bool dedicated : {false, true}) {
    if (dedicated && comm.size() == 1) continue;
    for (const std::uint32_t faults : {1U, 9U})
      for (const std::uint64_t chunk : {1U, 16U, 256U, 4096U}) {
        const Load load{chunk, faults, dedicated};
        std::array<Measured, kRounds> rounds;
        for (Measured& round : rounds) round = measure(comm, load, folder + "/bench_driver.h5");
        if (comm.rank() == 0) print_row(comm, load, rounds);
      }
  }
}

}  // namespace
}  // namespace sentinel

int main(int argc, char** argv) {
  const auto comm = sentinel::Comm::world();
  sentinel::bench(comm, argc > 1 ? argv[1] : ".");
  return EXIT_SUCCESS;
}
