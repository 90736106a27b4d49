#include "sentinel/networks/load.hpp"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>

#include "networks/everywhere.hpp"
#include "networks/seed_checkpoint.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/core/file.hpp"
#include "sentinel/core/hash.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/fault/fault_free.hpp"
#include "sentinel/io/checkpoint_file.hpp"
#include "sentinel/transform/harden.hpp"

namespace sentinel {
namespace {

constexpr std::int64_t kAllImages = -1;
constexpr std::int64_t kLookedAt = 64;  // images, before long work

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
  throw UserError(path + " has no activation bounds and was not hardened by the seed tool; leave " +
                  spelled(Setting::kClipping) + " out, or harden it");
}

/// Bounds every ReLU of a checkpoint that the seed tool hardened, which does not hold its bounds.
void restrict(const Comm& comm, NamedModel& model, const ModelSelection& selection) {
  const Dataset images =
      load_dataset(comm, selection, model.graph.dataset, Split::kTrain, kAllImages);
  Graph bounded = restrict_activations(model.graph, *selection.clipping, BoundsPer::kLayer);
  recalibrate(bounded, images, comm, at::kCPU);
  const Bytes file = comm.from_root([&] { return serialize_model(bounded, {}); });
  const FileNotes notes = model.notes;
  model = parse_everywhere(comm, file, selection.checkpoint, {});
  model.notes = notes;
}

/// The first `images` of a split, or as many as there are.
Dataset load_at_most(const Comm& comm, const ModelSelection& selection, const std::string& fallback,
                     Split split, std::int64_t images) {
  const std::string& name = selection.dataset.empty() ? fallback : selection.dataset;
  const Bytes bytes = comm.from_root([&] {
    if (name.empty())
      throw UserError(spelled(Setting::kDataset) +
                      " is missing: cifar10, cifar100, imagenet or synthetic");
    const ImageRequest request{images, at::get_num_threads(), selection.skip_broken};
    return read_dataset(name, selection.data, split, request).serialize();
  });
  Dataset dataset = Dataset::deserialize(bytes);
  require_same(comm, dataset.hash(), "image set");
  return dataset;
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

NamedModel load_model(const Comm& comm, const ModelSelection& selection) {
  const Bytes file = comm.from_root([&] {
    if (selection.checkpoint.empty())
      throw UserError(
          spelled(Setting::kCheckpoint) +
          " FILE is missing: the trained network, a .pth or .safetensors file (TorchScript: " +
          spelled(Setting::kModel) + " FILE)");
    return read_file(selection.checkpoint);
  });
  NamedModel model = parse_everywhere(comm, file, selection.checkpoint, selection);
  comm.agree([&] { check_seed_options(model.graph, selection); });
  if (selection.clipping && !is_restricted(model.graph)) {
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

Dataset training_images(const Comm& comm, const ModelSelection& selection,
                        const std::string& fallback, std::int64_t images, std::int64_t usual) {
  if (images < 0) return load_at_most(comm, selection, fallback, Split::kTrain, usual);
  return load_dataset(comm, selection, fallback, Split::kTrain, images);
}

}  // namespace sentinel
