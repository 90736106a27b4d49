#pragma once
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "sentinel/core/file.hpp"
#include "sentinel/store/result_file.hpp"
#include "sentinel/store/result_store.hpp"

namespace sentinel {

namespace fs = std::filesystem;

/// Where fsync costs nothing, if there is such a place: some tests open a store a thousand times.
inline std::string memory_directory() {
  return ::access("/dev/shm", W_OK) == 0 ? "/dev/shm" : fs::temp_directory_path().string();
}

/// A directory of its own, removed at the end.
class TempDir {
 public:
  explicit TempDir(const std::string& parent = memory_directory()) {
    std::string name = parent + "/sentinel_store_XXXXXX";
    if (!::mkdtemp(name.data())) throw std::runtime_error("mkdtemp failed");
    path_ = name;
  }
  ~TempDir() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// In each tensor of the sample.
inline constexpr std::uint64_t kElements = 4'000'000;

/// Planned for the first point: more than any test stores.
inline constexpr std::uint64_t kTrials = 1'000'000'000;

/// A campaign of two models and one or two points.
inline ResultInfo sample_info() {
  ResultInfo info;
  info.command = "sentinelnn inject --ber 1e-5";
  info.job = "[inject]\nber = 1e-5\n";
  info.fingerprint = "f00d";
  info.fingerprint_parts = {{"ber", "1e-5"}, {"model", "resnet20"}, {"seed", "7"}};
  info.seed = 7;
  info.provenance = {{"data_sha256", "d1"}, {"hdf5", hdf5_version()}};
  for (const char* name : {"unprotected", "hardened"}) {
    ModelInfo model;
    model.name = name;
    model.structure = "{\"widths\": [16]}";
    model.checkpoint_sha256 = "c0ffee";
    model.parameters = 270000;
    model.macs = 40000000;
    model.memory_bytes = 1080000;
    model.images = 256;
    model.correct = 170;
    model.top5 = 256;
    model.classes = 2;
    model.tensors = {{"conv1.weight", 0, kElements, kElements, 32},
                     {"layer1.0.conv1.weight", 0, kElements, kElements, 32}};
    model.nodes = {{"input", "Input", 0, 0}, {"conv1", "Conv", 442368, 432}};
    for (int i = 2; i < 7; ++i) model.nodes.push_back({"relu" + std::to_string(i), "Relu", 0, 0});
    for (int i = 0; i < 256; ++i) {
      model.golden_logits.push_back(0.5F * static_cast<float>(i % 3));
      model.golden_logits.push_back(static_cast<float>(i) - 5.5F);
      model.golden_predictions.push_back(i < 2 ? 1 : 0);
    }
    info.models.push_back(model);
  }
  for (int i = 0; i < 256; ++i) {
    info.labels.push_back(i % 3 == 0 ? 1 : 0);
    info.image_blocks.push_back(i / 64);
  }
  info.images_per_trial = 64;
  info.points = {{0, "T2", "binomial", 1e-5, kTrials, ""}, {1, "T1", "exact:1", 0, 50, "hardened"}};
  info.audit_rates = {0.25, 0};
  info.importance = {{"l2-norm", "conv1", {0.5, 2, 1}, {1, 2, 0}},
                     {"l2-norm", "a.conv", {3, 4}, {1, 0}}};
  return info;
}

/// A record that is a pure function of its key, as trials are.
inline TrialRecord sample_record(std::uint32_t point, std::uint64_t id, std::uint32_t model) {
  TrialRecord record;
  TrialRow& row = record.row;
  row.point = point;
  row.id = id;
  row.model = model;
  row.block = static_cast<std::int32_t>(id % 4);
  row.n_faults = static_cast<std::uint32_t>(id % 3);
  row.first_node = static_cast<std::int32_t>(id % 7);
  row.images = 64;
  row.correct = static_cast<std::uint32_t>((id * 37 + model) % 53);
  row.top5 = 52;
  row.masked = 40;
  row.sdc_noncritical = 6;
  row.sdc_critical = 8;
  row.due = 10;
  row.correct_argmax = row.correct;
  row.faults_masked = id % 2 == 0 ? 0 : row.n_faults;
  row.words_wrong = static_cast<std::uint32_t>(id % 5);
  row.words_flagged = model;
  row.faults_stored = id % 10 == 7 ? 0 : 1;
  row.path = 1;
  row.wall_us = 1234;
  row.rank = 3;
  for (std::uint32_t f = 0; row.faults_stored != 0 && f < row.n_faults; ++f)
    record.faults.push_back(
        {0, f, (id * 100 + f) % kElements, 32, static_cast<std::uint8_t>(id % 32), 0x3f800000U,
         0x3f800000U ^ (1U << (id % 32)), static_cast<std::int32_t>(id % 4) - 1,
         static_cast<std::uint8_t>(id % 5), static_cast<std::uint8_t>(id % 32 == 31 ? 1 : 1 + f)});
  return record;
}

/// Both models' records of one trial: a chunk.
inline std::vector<TrialRecord> sample_trial(std::uint32_t point, std::uint64_t id) {
  return {sample_record(point, id, 0), sample_record(point, id, 1)};
}

/// An audit that differs from the default in every member.
inline AuditRow sample_audit(std::uint32_t point, std::uint64_t id, std::uint32_t model) {
  return {{64, 10, 20, 30, 20, 10, 4, 15}, point, id, model, 2, 1, 0.25};
}

/// {0, ..., end - 1}
inline std::set<std::uint64_t> range(std::uint64_t end) {
  std::set<std::uint64_t> ids;
  for (std::uint64_t id = 0; id < end; ++id) ids.insert(id);
  return ids;
}

inline StoreOptions quick_options() {
  StoreOptions options;
  options.lock_wait = std::chrono::seconds(0);
  options.publish = std::chrono::seconds(3600);
  return options;
}

inline ResultStore open_store(const std::string& path,
                              const StoreOptions& options = quick_options(),
                              const ResultInfo& info = sample_info()) {
  return ResultStore(path, info, {2, "node1", "{\"threads\": 1}"}, options);
}

inline bool same_fault(const FaultRow& a, const FaultRow& b) {
  return a.kind == b.kind && a.tensor == b.tensor && a.element == b.element &&
         a.word_bits == b.word_bits && a.bit == b.bit && a.before == b.before &&
         a.after == b.after && a.image == b.image && a.effect == b.effect && a.length == b.length;
}

/// Everything a row says but who ran it when.
inline auto content(const TrialRow& r) {
  return std::make_tuple(
      r.point, r.id, r.model, r.stage, r.stratum, r.probability, r.block, r.n_faults, r.first_node,
      r.images, r.correct, r.top5, r.masked,
      std::make_tuple(r.sdc_noncritical, r.sdc_critical, r.due, r.correct_argmax, r.faults_masked,
                      r.words_wrong, r.words_flagged, r.faults_stored));
}

inline auto content(const AuditRow& r) {
  return std::make_tuple(r.point, r.id, r.model, r.images, r.mismatches, r.near_ties, r.correct,
                         r.top5, r.masked, r.sdc_noncritical, r.sdc_critical, r.due,
                         r.correct_argmax, r.deviation);
}

/// The published result holds exactly these trials of point 0, both models, in order, unchanged.
inline void expect_trials(const std::string& path, const std::set<std::uint64_t>& ids) {
  const ResultFile result = read_result(path);
  const auto faults = read_faults(path);
  ASSERT_EQ(result.trials.size(), 2 * ids.size());
  ASSERT_EQ(faults.size(), 2 * ids.size());
  std::size_t i = 0;
  for (const std::uint64_t id : ids)
    for (std::uint32_t model = 0; model < 2; ++model, ++i) {
      const TrialRecord wanted = sample_record(0, id, model);
      EXPECT_EQ(content(result.trials[i]), content(wanted.row)) << "row " << i;
      ASSERT_EQ(faults[i].size(), wanted.faults.size());
      for (std::size_t f = 0; f < faults[i].size(); ++f)
        EXPECT_TRUE(same_fault(faults[i][f], wanted.faults[f])) << "row " << i;
    }
}

inline std::vector<std::string> files_in(const std::string& directory) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

/// Keeps expected warnings off the terminal.
class Quiet {
 public:
  Quiet() : before_(spdlog::get_level()) { spdlog::set_level(spdlog::level::err); }
  ~Quiet() { spdlog::set_level(before_); }

 private:
  spdlog::level::level_enum before_;
};

/// The message of the error `run` throws.
template <class Expected, class F>
std::string message_of(F&& run) {
  try {
    run();
  } catch (const Expected& error) {
    return error.what();
  } catch (const std::exception& error) {
    ADD_FAILURE() << "another error: " << error.what();
    return "";
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

/// Output of a Python program (Debian's interpreter, which has h5py); "" where it fails.
inline std::string python(const std::string& program, const std::string& argument) {
  const TempDir dir;
  write_file_atomic(dir / "program.py", std::string_view(program));
  const std::string command = "/usr/bin/python3 " + (dir / "program.py") + " " + argument + " 2>&1";
  FILE* pipe = ::popen(command.c_str(), "r");
  if (!pipe) return "";
  std::string text;
  char buffer[4096];
  while (const std::size_t got = std::fread(buffer, 1, sizeof(buffer), pipe))
    text.append(buffer, got);
  return ::pclose(pipe) == 0 ? text : "failed: " + text;
}

inline bool have_h5py() {
  return std::system("/usr/bin/python3 -c 'import h5py, pandas' >/dev/null 2>&1") == 0;
}

}  // namespace sentinel
