#include "sentinel/campaign/setup.hpp"

#include <ATen/Parallel.h>
#include <torch/cuda.h>
#include <unistd.h>

#include <filesystem>
#include <optional>

#include "sentinel/core/error.hpp"
#include "sentinel/core/file.hpp"
#include "sentinel/core/hash.hpp"
#include "sentinel/models/model.hpp"

namespace sentinel {
namespace {

/// Of the network alone: the command that made it does not count.
std::string content_hash(const Graph& graph) {
  const Bytes bytes = serialize_model(graph, {});
  return sha256_hex(bytes.data(), bytes.size());
}

/// The same graph on every rank from rank 0's bytes.
NamedModel parse_everywhere(const Comm& comm, const Bytes& file, const std::string& source,
                            const ModelSelection& selection) {
  NamedModel model;
  comm.agree([&] {
    model.graph = parse_model(file, source, selection.model, selection.dataset);
    model.sha256 = content_hash(model.graph);
  });
  return model;
}

bool is_protected(const Graph& graph) {
  for (const Node& node : graph.nodes())
    if (std::holds_alternative<DuplicatedConv>(node.op) ||
        std::holds_alternative<BoundedRelu>(node.op))
      return true;
  return false;
}

ChannelScores scores_on_root(const NamedModel& model, const ProtectionJob& protection) {
  if (protection.ranking.empty())
    return importance_method(protection.importance)->score(model.graph);
  const RankingFile ranking = read_ranking(protection.ranking);
  if (ranking.model_sha256 != model.sha256)
    throw DataError(protection.ranking, "this ranking was made from another network (" +
                                            ranking.architecture + "); rank this one again");
  return from_ranking(model.graph, ranking, protection.ranking);
}

}  // namespace

void require_writable(const std::string& path) {
  if (path.empty()) return;
  std::error_code none;
  if (std::filesystem::is_directory(path, none))
    throw EnvironmentError(path + " is a folder; give the name of a file to write");
  const auto parent = std::filesystem::path(path).parent_path();
  const std::string folder = parent.empty() ? "." : parent.string();
  if (!std::filesystem::is_directory(folder, none))
    throw EnvironmentError("cannot write " + path + ": there is no folder " + folder +
                           "; make it first");
  if (::access(folder.c_str(), W_OK) != 0) throw_errno("cannot write " + path + ": folder", folder);
}

NamedModel load_model(const Comm& comm, const ModelSelection& selection) {
  const Bytes file = comm.from_root([&] {
    if (selection.checkpoint.empty())
      throw UserError("--checkpoint FILE is missing: the trained network, a .pth file");
    return read_file(selection.checkpoint);
  });
  NamedModel model = parse_everywhere(comm, file, selection.checkpoint, selection);
  model.name = is_protected(model.graph) ? "hardened" : "unprotected";
  return model;
}

Dataset load_dataset(const Comm& comm, const ModelSelection& selection, const std::string& fallback,
                     Split split, std::int64_t images) {
  const std::string& name = selection.dataset.empty() ? fallback : selection.dataset;
  const Bytes bytes = comm.from_root([&] {
    if (name.empty()) throw UserError("--dataset is missing: cifar10, cifar100 or synthetic");
    return read_dataset(name, selection.data, split).first(images).serialize();
  });
  return Dataset::deserialize(bytes);
}

ChannelScores channel_scores(const Comm& comm, const NamedModel& model,
                             const ProtectionJob& protection) {
  const Bytes bytes = comm.from_root([&] {
    ByteWriter writer;
    for (const LayerScores& layer : scores_on_root(model, protection)) {
      writer.write(layer.node);
      writer.vector(layer.scores);
    }
    return writer.take();
  });
  ChannelScores scores;
  ByteReader reader(bytes, "channel scores");
  while (!reader.done()) {
    const auto node = reader.read<NodeId>();
    scores.push_back({node, model.graph[node].name, read_vector<double>(reader)});
  }
  return scores;
}

NamedModel make_hardened(const Comm& comm, const NamedModel& model, const ModelSelection& selection,
                         const ChannelScores& scores, const ProtectionJob& protection,
                         at::Device device, const std::string& command) {
  const Dataset calibration = load_dataset(comm, selection, model.graph.dataset, Split::kTrain,
                                           protection.calibration_images);
  const Graph graph = harden(model.graph, scores, protection.hardening, calibration, comm, device);
  // Ranks on other processors may calibrate to other last bits: rank 0's result holds.
  const Bytes file = comm.from_root([&] {
    return serialize_model(graph, {{model.sha256}, command, 0});
  });
  NamedModel hardened = parse_everywhere(comm, file, "the hardened network", {});
  hardened.name = "hardened";
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
  if (comm.local_size() > gpus && !compute.share_gpu)
    throw EnvironmentError(std::to_string(comm.local_size()) + " ranks on this host but " +
                           std::to_string(gpus) + " GPUs; start fewer ranks or say --share-gpu");
  at::globalContext().setAllowTF32CuBLAS(false);
  at::globalContext().setAllowTF32CuDNN(false);
  at::globalContext().setDeterministicCuDNN(true);
  at::globalContext().setBenchmarkCuDNN(false);
  return at::Device(at::kCUDA, static_cast<at::DeviceIndex>(comm.local_rank() % gpus));
}

}  // namespace sentinel
