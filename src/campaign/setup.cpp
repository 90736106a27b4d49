#include "sentinel/campaign/setup.hpp"

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <torch/cuda.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "campaign/channel_fi.hpp"
#include "campaign/names.hpp"
#include "campaign/recipe.hpp"
#include "campaign/seed_checkpoint.hpp"
#include "sentinel/campaign/normalise.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/core/file.hpp"
#include "sentinel/core/hash.hpp"
#include "sentinel/core/stop.hpp"
#include "sentinel/fault/fault_free.hpp"
#include "sentinel/models/model.hpp"

namespace sentinel {
namespace {

constexpr std::int64_t kAllImages = -1;
constexpr std::int64_t kLookedAt = 64;  // images, before long work

/// Throws on every rank where one has another hash than rank 0.
void require_same(const Comm& comm, const std::string& hash, const std::string& what) {
  const Bytes first = comm.from_root([&] {
    ByteWriter writer;
    writer.text(hash);
    return writer.take();
  });
  comm.agree([&] {
    if (ByteReader(first, what).text(first.size()) != hash)
      throw EnvironmentError("rank " + std::to_string(comm.rank()) + " has another " + what +
                             " than rank 0; check this node's memory and libraries");
  });
}

bool is_restricted(const Graph& graph) {
  const auto& nodes = graph.nodes();
  return std::any_of(nodes.begin(), nodes.end(), [](const Node& node) {
    return std::holds_alternative<BoundedActivation>(node.op);
  });
}

void require_seed_hardened(const Bytes& file, const Graph& graph, const std::string& path) {
  const auto& nodes = graph.nodes();
  const bool duplicated = std::any_of(nodes.begin(), nodes.end(), [](const Node& node) {
    return std::holds_alternative<DuplicatedConv>(node.op);
  });
  if (duplicated && !parse_pth(file, path).metadata) return;
  throw UserError(path +
                  " has no activation bounds and was not hardened by the seed tool; leave "
                  "--clipping out, or harden it");
}

/// The first `images` of a split, or as many as there are.
Dataset load_at_most(const Comm& comm, const ModelSelection& selection, const std::string& fallback,
                     Split split, std::int64_t images) {
  const std::string& name = selection.dataset.empty() ? fallback : selection.dataset;
  const Bytes bytes = comm.from_root([&] {
    if (name.empty())
      throw UserError("--dataset is missing: cifar10, cifar100, imagenet or synthetic");
    const ImageRequest request{images, at::get_num_threads(), selection.skip_broken};
    return read_dataset(name, selection.data, split, request).serialize();
  });
  Dataset dataset = Dataset::deserialize(bytes);
  require_same(comm, dataset.hash(), "image set");
  return dataset;
}

/// Bounds every ReLU of a checkpoint that the seed tool hardened, which does not hold its bounds.
void restrict(const Comm& comm, NamedModel& model, const ModelSelection& selection) {
  const Dataset images =
      load_dataset(comm, selection, model.graph.dataset, Split::kTrain, kAllImages);
  Graph bounded =
      restrict_activations(model.graph, clipping_of(selection.clipping), BoundsPer::kLayer);
  recalibrate(bounded, images, comm, at::kCPU);
  const Bytes file = comm.from_root([&] { return serialize_model(bounded, {}); });
  const FileNotes notes = model.notes;
  model = parse_everywhere(comm, file, selection.checkpoint, {});
  model.notes = notes;
}

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
    images = ranking_images(comm, selection, model.graph.dataset, job, method->default_images());
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

/// None where nothing is calibrated.
Dataset calibration_images(const Comm& comm, const NamedModel& model,
                           const ModelSelection& selection, const ProtectionJob& job) {
  const DuplicationPlan& plan = job.hardening.duplication;
  const bool intervals = plan.ratio > 0 && plan.correction == Correction::kRange;
  const std::string& dataset = model.graph.dataset;
  if (!job.hardening.restricted && !intervals) return Dataset(dataset_info(dataset), {}, {});
  return load_dataset(comm, selection, dataset, Split::kTrain, job.calibration_images);
}

std::string duplication_text(const DuplicationPlan& plan) {
  if (plan.ratio == 0) return "no duplication";
  std::string text = fmt::format("ratio {:.17g}, {} selection, {} correction", plan.ratio,
                                 plan.selection == RowLayout::kOwn ? "own" : "group",
                                 plan.correction == Correction::kRange ? "range" : "min");
  if (plan.selection == RowLayout::kGroup)
    text += plan.group_score == GroupScore::kMean ? ", mean group score" : ", first group score";
  return text;
}

/// Everything that decides the bits of a hardened model.
std::string recipe_of(const NamedModel& model, const ChannelScores& scores,
                      const ProtectionJob& job, const Dataset& calibration) {
  const HardeningPlan& plan = job.hardening;
  std::string text = duplication_text(plan.duplication);
  if (plan.restricted)
    text +=
        fmt::format(", {} per {}", plan.clipping == Clipping::kRanger ? "ranger" : "ranger-clamp",
                    plan.bounds == BoundsPer::kLayer ? "layer" : "channel");
  if (plan.weight_bounds)
    text += fmt::format(", weights bounded per {}",
                        *plan.weight_bounds == WeightBoundsPer::kLayer ? "layer" : "channel");
  for (const StoreRule& rule : plan.store) text += ", stored as " + rule.text;
  if (plan.fold_batch_norm) text += ", batch norm folded";
  return text + fmt::format(", calibrated on {} images {:.12}, scores {:.12}, of network {:.12}",
                            calibration.size(), calibration.hash(), hash_of(scores), model.sha256);
}

}  // namespace

void require_fault_free(const Comm& comm, const NamedModel& model) {
  comm.from_root([&] {
    require_fault_free(source_of(model), model.graph, {}, "");
    return Bytes();
  });
}

void require_fault_free(const Comm& comm, const NamedModel& model, const Dataset& images,
                        const std::string& what) {
  comm.from_root([&] {
    const std::int64_t count = std::min(kLookedAt, images.size());
    require_fault_free(source_of(model), model.graph,
                       images.batch(0, count, model.graph.normalisation).images, what);
    return Bytes();
  });
}

std::string content_hash(const Graph& graph) {
  const CheckpointFile file = parse_pth(serialize_model(graph, {}), "network");
  auto record = nlohmann::json::parse(file.metadata.value_or("{}"));
  record.erase("provenance");
  Sha256 hash;
  hash.update(record.dump());
  for (const auto& [name, tensor] : file.tensors) {
    hash.update(fmt::format("{} {} {}\n", name, at::toString(tensor.scalar_type()),
                            fmt::join(tensor.sizes(), "x")));
    hash.update(tensor.data_ptr(), tensor.nbytes());
  }
  return hash.hex();
}

NamedModel parse_everywhere(const Comm& comm, const Bytes& file, const std::string& source,
                            const ModelSelection& selection) {
  NamedModel model;
  comm.agree([&] {
    model.graph = parse_model(
        file, source, {selection.model, selection.dataset, selection.weights_key}, &model.notes);
    if (!selection.normalisation.empty())
      choose_normalisation(model.graph, selection, recorded_normalisation(file, source));
    model.sha256 = content_hash(model.graph);
  });
  require_same(comm, model.sha256, source);
  return model;
}

std::string hash_of(const ChannelScores& scores) {
  Sha256 hash;
  for (const LayerScores& layer : scores)
    hash.update(layer.scores.data(), layer.scores.size() * sizeof(double));
  return hash.hex();
}

Bytes made_by(const std::string& recipe, const std::string& path) {
  if (path.empty() || !std::filesystem::exists(path)) return {};
  const auto again = [&](const char* why) {
    spdlog::warn("{} {}; it is made again", path, why);
    return Bytes();
  };
  try {
    Bytes file = read_file(path);
    const Provenance made = read_provenance(file, path);
    if (made.recipe != recipe) return again("was made from another network or by other options");
    if (!made.network_sha256.empty() &&
        content_hash(parse_model(file, path, ModelChoice{})) != made.network_sha256)
      return again("has other weights than it was made with");
    return file;
  } catch (const DataError&) {
    return again("cannot be read");
  }
}

void throw_stopped(const std::string& state_file) {
  const bool kept = !state_file.empty() && std::filesystem::exists(state_file);
  const std::string rest =
      kept ? "the epochs done are in " + state_file + "; run the same command again to go on"
           : "no epoch was done yet; run the same command again to start over";
  throw Error(stop_code(), fmt::format("stopped by signal {}: {}", stop_signal(), rest));
}

ExitCode code_of_root(const Comm& comm, const std::function<ExitCode()>& body) {
  const Bytes bytes = comm.from_root([&] {
    ByteWriter writer;
    writer.write(static_cast<std::int32_t>(body()));
    return writer.take();
  });
  return static_cast<ExitCode>(ByteReader(bytes, "exit code").read<std::int32_t>());
}

NamedModel load_model(const Comm& comm, const ModelSelection& selection) {
  const Bytes file = comm.from_root([&] {
    if (selection.checkpoint.empty())
      throw UserError(
          "--checkpoint FILE is missing: the trained network, a .pth or .safetensors file "
          "(TorchScript: --model FILE)");
    return read_file(selection.checkpoint);
  });
  NamedModel model = parse_everywhere(comm, file, selection.checkpoint, selection);
  comm.agree([&] { check_seed_options(model.graph, selection); });
  if (!selection.clipping.empty() && !is_restricted(model.graph)) {
    comm.agree([&] { require_seed_hardened(file, model.graph, selection.checkpoint); });
    restrict(comm, model, selection);
  }
  model.name = name_of(model.graph, selection.checkpoint);
  model.file = selection.checkpoint;
  model.file_sha256 = sha256_hex(file.data(), file.size());
  return model;
}

Dataset load_dataset(const Comm& comm, const ModelSelection& selection, const std::string& fallback,
                     Split split, std::int64_t images) {
  Dataset dataset = load_at_most(comm, selection, fallback, split, images);
  comm.agree([&] {
    if (images > dataset.size())
      throw UserError(fmt::format("{} images are asked for, but the {} split of {} has {}", images,
                                  split == Split::kTrain ? "training" : "test", dataset.info().name,
                                  dataset.size()));
  });
  return dataset;
}

Dataset ranking_images(const Comm& comm, const ModelSelection& selection,
                       const std::string& fallback, const RankingJob& job, std::int64_t usual) {
  if (job.images < 0) return load_at_most(comm, selection, fallback, Split::kTrain, usual);
  return load_dataset(comm, selection, fallback, Split::kTrain, job.images);
}

std::string method_of(const Comm& comm, const RankingJob& job) {
  const Bytes bytes = comm.from_root([&] {
    ByteWriter writer;
    writer.text(job.file.empty() ? job.importance : read_ranking(job.file).method);
    return writer.take();
  });
  return ByteReader(bytes, "importance method").text(bytes.size());
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

NamedModel make_hardened(const Comm& comm, const NamedModel& model, const ModelSelection& selection,
                         const ChannelScores& scores, const ProtectionJob& protection,
                         at::Device device, const std::string& command, const std::string& reuse) {
  require_fault_free(comm, model);
  const Dataset calibration = calibration_images(comm, model, selection, protection);
  if (comm.rank() == 0) log_images("calibration", model, calibration);
  const std::string recipe = recipe_of(model, scores, protection, calibration);
  Bytes file = comm.from_root([&] { return made_by(recipe, reuse); });
  if (file.empty()) {
    const Graph graph =
        harden(model.graph, scores, protection.hardening, calibration, comm, device);
    // Ranks on other processors may calibrate to other last bits: rank 0's result holds.
    file = comm.from_root([&] {
      return serialize_model(graph, {{model.file_sha256}, command, 0, recipe, content_hash(graph)});
    });
  }
  NamedModel hardened = parse_everywhere(comm, file, "hardened network", {});
  hardened.name = name_of(hardened.graph, "");
  hardened.file_sha256 = sha256_hex(file.data(), file.size());
  hardened.recipe = recipe;
  hardened.made = std::move(file);
  return hardened;
}

at::Device choose_device(const Comm& comm, const Compute& compute) {
  if (compute.device != "auto" && compute.device != "cpu" && compute.device != "cuda")
    throw UserError("--device " + compute.device + " is unknown; choose auto, cpu or cuda");
  at::set_num_threads(compute.threads);
  const auto gpus = static_cast<int>(torch::cuda::device_count());
  if (compute.device == "cpu" || (compute.device == "auto" && gpus == 0)) return at::kCPU;
  if (gpus == 0)
    throw EnvironmentError(
        "--device cuda: no GPU can be used here (LibTorch without CUDA, or none is visible)");
  // Under --gpus-per-task each rank sees its own GPU alone.
  const bool bound = gpus == 1 && std::getenv("SLURM_GPUS_PER_TASK") != nullptr;
  if (comm.local_size() > gpus && !bound && !compute.share_gpu)
    throw EnvironmentError(std::to_string(comm.local_size()) + " ranks on this host but " +
                           std::to_string(gpus) + " GPUs; start fewer ranks or say --share-gpu");
  at::globalContext().setAllowTF32CuBLAS(false);
  at::globalContext().setAllowTF32CuDNN(false);
  at::globalContext().setDeterministicCuDNN(true);
  at::globalContext().setBenchmarkCuDNN(false);
  return at::Device(at::kCUDA, static_cast<at::DeviceIndex>(comm.local_rank() % gpus));
}

}  // namespace sentinel
