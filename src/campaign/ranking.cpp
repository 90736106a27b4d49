#include "sentinel/campaign/ranking.hpp"

#include <spdlog/spdlog.h>

#include <memory>
#include <optional>

#include "campaign/channel_fi.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/networks/load.hpp"
#include "sentinel/networks/network.hpp"
#include "sentinel/networks/normalisation.hpp"
#include "sentinel/networks/outputs.hpp"
#include "sentinel/networks/selection.hpp"
#include "sentinel/store/result_file.hpp"

namespace sentinel {
namespace {

constexpr std::int64_t kLookedAt = 64;  // images, before long work

ChannelScores scores_of_file(const NamedModel& model, const std::string& path) {
  const RankingFile ranking = read_ranking(path);
  if (ranking.model_sha256 != model.sha256)
    throw DataError(path, "this ranking was made from another network (" + ranking.architecture +
                              "); rank this one again");
  return from_ranking(model.graph, ranking, path);
}

/// By the job's method, on every rank. Collective.
ChannelScores computed_scores(const Comm& comm, const NamedModel& model,
                              const ModelSelection& selection, const RankingJob& job,
                              at::Device device) {
  if (job.importance == kChannelFaults)
    return run_channel_faults(comm, model, selection, job, device);
  std::unique_ptr<ImportanceMethod> method;
  comm.agree([&] { method = importance_method(job.importance); });
  std::optional<Dataset> images;
  if (method->default_images() > 0)
    images =
        training_images(comm, selection, model.graph.dataset, job.images, method->default_images());
  if (images) require_fault_free(comm, model, *images, "training images");
  if (images && comm.rank() == 0) log_images("ranking", model, *images);
  ImportanceInputs inputs{model.graph};
  inputs.images = images ? &*images : nullptr;
  inputs.comm = comm;
  inputs.device = device;
  inputs.seed = job.seed;
  inputs.model_sha256 = model.sha256;
  inputs.deepvigor = job.deepvigor;
  return method->score(inputs);
}

Bytes serialize(const ChannelScores& scores) {
  ByteWriter writer;
  for (const LayerScores& layer : scores) {
    writer.write(layer.node);
    writer.vector(layer.scores);
    writer.vector(layer.sample.lower);
    writer.vector(layer.sample.upper);
    writer.vector(layer.sample.accuracy);
    writer.vector(layer.sample.trials);
  }
  return writer.take();
}

/// The method of the job's ranking file, or else its importance method. Collective.
std::string method_of(const Comm& comm, const RankingJob& job) {
  const Bytes bytes = comm.from_root([&] {
    ByteWriter writer;
    writer.text(job.file.empty() ? job.importance : read_ranking(job.file).method);
    return writer.take();
  });
  return ByteReader(bytes, "importance method").text(bytes.size());
}

}  // namespace

void note_method(const Comm& comm, ProtectionJob& job) {
  const std::string& method = job.ranking.importance = method_of(comm, job.ranking);
  std::optional<Overhead>& overhead = job.hardening.duplication.overhead;
  if (!overhead) return;
  overhead->scale = score_scale(method);
  if (overhead->scale == ScoreScale::kLayer && comm.rank() == 0)
    spdlog::warn(
        "scores of {} compare the channels of one layer, and {} chooses among all layers; "
        "deepvigor and channel-FI compare those",
        method, spelled(Setting::kOverhead));
}

ChannelScores channel_scores(const Comm& comm, const NamedModel& model,
                             const ModelSelection& selection, const RankingJob& job,
                             at::Device device) {
  ChannelScores own;
  require_fault_free(comm, model);
  if (job.file.empty()) own = computed_scores(comm, model, selection, job, device);
  // Ranks on other processors may score to other last bits: rank 0's result holds.
  const Bytes bytes = comm.from_root(
      [&] { return serialize(job.file.empty() ? own : scores_of_file(model, job.file)); });
  ChannelScores scores;
  ByteReader reader(bytes, "channel scores");
  while (!reader.done()) {
    const auto node = reader.read<NodeId>();
    LayerScores layer{node, model.graph[node].name, read_vector<double>(reader)};
    layer.sample.lower = read_vector<double>(reader);
    layer.sample.upper = read_vector<double>(reader);
    layer.sample.accuracy = read_vector<double>(reader);
    layer.sample.trials = read_vector<std::uint64_t>(reader);
    scores.push_back(std::move(layer));
  }
  return scores;
}

std::vector<Output> channel_outputs(const RankingJob& job) {
  if (!job.file.empty() || job.importance != kChannelFaults) return {};
  return {{job.channel_faults.output, FileKind::kResult}};
}

bool ranks_by_images(const RankingJob& job) {
  if (!job.file.empty()) return false;
  return job.importance == kChannelFaults ||
         importance_method(job.importance)->default_images() > 0;
}

void look_at_training_images(const Comm& comm, const NamedModel& model,
                             const ModelSelection& selection, at::Device device) {
  const Dataset few = load_dataset(comm, selection, model.graph.dataset, Split::kTrain, kLookedAt);
  require_fault_free(comm, model, few, "training images");
  comm.from_root([&] {
    warn_if_guessing(model, few, device);
    return Bytes();
  });
}

}  // namespace sentinel
