#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "sentinel/core/error.hpp"
#include "sentinel/core/file.hpp"
#include "sentinel/core/log.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/store/result_file.hpp"
#include "store/checks.hpp"
#include "store/importance_groups.hpp"

namespace sentinel {
namespace store {
namespace {

void write_sample(const h5::File& file, hid_t group, const ChannelSample& sample) {
  if (sample.trials.empty()) return;
  h5::write_numbers(file, group, "lower", sample.lower);
  h5::write_numbers(file, group, "upper", sample.upper);
  h5::write_numbers(file, group, "accuracy", sample.accuracy);
  h5::write_numbers(file, group, "trials", sample.trials);
}

ChannelSample read_sample(const h5::File& file, hid_t group) {
  if (!h5::exists(file, group, "trials")) return {};
  return {h5::read_numbers<double>(file, group, "lower"),
          h5::read_numbers<double>(file, group, "upper"),
          h5::read_numbers<double>(file, group, "accuracy"),
          h5::read_numbers<std::uint64_t>(file, group, "trials")};
}

}  // namespace

void write_importance(const h5::File& file, hid_t parent, const std::vector<ImportanceInfo>& all) {
  std::uint32_t index = 0;
  for (const ImportanceInfo& layer : all) {
    const h5::Handle method = h5::exists(file, parent, layer.method)
                                  ? h5::open_group(file, parent, layer.method)
                                  : h5::create_group(file, parent, layer.method);
    const h5::Handle group = h5::create_group(file, method, layer.layer);
    h5::put<std::uint32_t>(file, group, "index", index++);
    h5::write_numbers(file, group, "scores", layer.scores);
    h5::write_numbers(file, group, "order", layer.order);
    write_sample(file, group, layer.sample);
  }
}

std::vector<ImportanceInfo> read_importance(const h5::File& file, hid_t parent) {
  std::vector<std::pair<std::uint32_t, ImportanceInfo>> found;
  for (const std::string& method : h5::links(file, parent)) {
    const h5::Handle layers = h5::open_group(file, parent, method);
    for (const std::string& layer : h5::links(file, layers)) {
      const h5::Handle group = h5::open_group(file, layers, layer);
      found.push_back(
          {h5::get<std::uint32_t>(file, group, "index"),
           {method, layer, h5::read_numbers<double>(file, group, "scores"),
            h5::read_numbers<std::int64_t>(file, group, "order"), read_sample(file, group)}});
    }
  }
  std::sort(found.begin(), found.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<ImportanceInfo> all;
  for (auto& [index, layer] : found) all.push_back(std::move(layer));
  return all;
}

}  // namespace store

namespace {

constexpr std::int32_t kRankingVersion = 1;  // of the schema of rankings

/// Further columns of channel-FI.
std::string csv_of(const ChannelSample& sample, std::size_t channel) {
  if (sample.trials.empty()) return "";
  return fmt::format(",{:.17g},{:.17g},{:.17g},{}", sample.lower[channel], sample.upper[channel],
                     sample.accuracy[channel], sample.trials[channel]);
}

std::string csv_of(const RankingFile& ranking) {
  const bool sampled = !ranking.layers.empty() && !ranking.layers.front().sample.trials.empty();
  std::string text(kRankingTableHead);
  text += sampled ? ",lower,upper,accuracy,trials\n" : "\n";
  for (const ImportanceInfo& layer : ranking.layers) {
    std::vector<std::size_t> rank(layer.scores.size());
    for (std::size_t r = 0; r < layer.order.size(); ++r)
      rank.at(static_cast<std::size_t>(layer.order[r])) = r;
    for (std::size_t channel = 0; channel < layer.scores.size(); ++channel)
      text += fmt::format("{},{},{:.17g},{}{}\n", layer.layer, channel, layer.scores[channel],
                          rank[channel], csv_of(layer.sample, channel));
  }
  return text;
}

void write_ranking_hdf5(const std::string& path, const RankingFile& ranking) {
  const h5::Guard guard;
  h5::File file = h5::File::create(path);
  const hid_t root = file.id();
  h5::put_text(file, root, "schema", kRankingSchema);
  h5::put<std::int32_t>(file, root, "schema_version", kRankingVersion);
  h5::put_text(file, root, "creator", "sentinelnn");
  h5::put_text(file, root, "creator_version", version());
  h5::put_text(file, root, "method", ranking.method);
  h5::put_text(file, root, "model_sha256", ranking.model_sha256);
  h5::put_text(file, root, "architecture", ranking.architecture);
  h5::put_text(file, root, "dataset", ranking.dataset);
  h5::put_text(file, root, "command", ranking.command);
  if (!ranking.definition.empty()) h5::put_text(file, root, "definition", ranking.definition);
  {
    const h5::Handle importance = h5::create_group(file, root, "importance");
    auto layers = ranking.layers;
    for (ImportanceInfo& layer : layers) layer.method = ranking.method;
    store::write_importance(file, importance, layers);
  }
  file.close();
}

}  // namespace

bool is_ranking_table(const std::string& path) {
  return std::filesystem::path(path).extension() == ".csv";
}

void write_ranking(const std::string& path, const RankingFile& ranking) {
  if (is_ranking_table(path)) return write_file_atomic(path, std::string_view(csv_of(ranking)));
  const std::string temporary = temporary_beside(path);
  try {
    write_ranking_hdf5(temporary, ranking);
    publish_file(temporary, path);
  } catch (...) {
    std::remove(temporary.c_str());
    throw;
  }
}

RankingFile read_ranking(const std::string& path) {
  const h5::Guard guard;
  const h5::File file = h5::File::open(path);
  const hid_t root = file.id();
  if (!h5::has_attribute(file, root, "schema") ||
      h5::get_text(file, root, "schema") != kRankingSchema)
    throw DataError(path, "is no ranking file; `sentinelnn rank " + spelled(Setting::kOutput) +
                              "` writes them");
  if (h5::get<std::int32_t>(file, root, "schema_version") > kRankingVersion)
    throw DataError(path, "was written by a newer sentinelnn; use that version");
  RankingFile ranking;
  ranking.method = h5::get_text(file, root, "method");
  ranking.model_sha256 = h5::get_text(file, root, "model_sha256");
  ranking.architecture = h5::get_text(file, root, "architecture");
  ranking.dataset = h5::get_text(file, root, "dataset");
  ranking.command = h5::get_text(file, root, "command");
  if (h5::has_attribute(file, root, "definition"))
    ranking.definition = h5::get_text(file, root, "definition");
  const h5::Handle importance = h5::open_group(file, root, "importance");
  ranking.layers = store::read_importance(file, importance);
  for (const ImportanceInfo& layer : ranking.layers) store::check_importance(path, layer);
  return ranking;
}

}  // namespace sentinel
