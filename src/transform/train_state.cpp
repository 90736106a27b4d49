#include "transform/train_state.hpp"

#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "sentinel/core/error.hpp"
#include "sentinel/core/file.hpp"
#include "sentinel/core/hash.hpp"
#include "sentinel/core/json.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/graph/visit.hpp"
#include "sentinel/io/checkpoint_file.hpp"

namespace sentinel {
namespace {

using nlohmann::json;

constexpr int kVersion = 1;
/// The end of an error: what somebody may do.
std::string way_out() {
  return "; delete it or say " + spelled(Setting::kFresh) + " to start over";
}

json to_json(const std::string& fingerprint, const TrainProgress& progress) {
  json reports = json::array();
  for (const EpochReport& report : progress.reports) {
    reports.push_back({report.loss, report.accuracy});
  }
  return {{"training", kVersion},
          {"fingerprint", fingerprint},
          {"best_correct", progress.best_correct},
          {"epochs", reports}};
}

/// Throws json::exception where it is none: 1e300 is not.
std::int64_t whole_number(const json& value) {
  return value.get_ref<const json::number_integer_t&>();
}

/// Throws json::exception.
TrainProgress from_json(const json& record) {
  TrainProgress progress;
  progress.best_correct = whole_number(record.at("best_correct"));
  for (const json& report : record.at("epochs")) {
    const auto epoch = static_cast<std::int64_t>(progress.reports.size()) + 1;
    progress.reports.push_back(
        {epoch, report.at(0).get<double>(), report.at(1).get<double>(), true});
  }
  return progress;
}

CheckpointFile whole_file(const std::string& path) {
  try {
    return read_pth(path);
  } catch (const DataError& error) {
    throw DataError(path,
                    "no training can go on from this file" + way_out() + " (" + error.what() + ")");
  }
}

void copy_into(const LiveTensors& tensors, const StateDict& stored, const std::string& path) {
  const at::NoGradGuard no_grad;
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor* found = stored.find(name);
    if (!found || found->sizes() != tensor->sizes() || found->dtype() != tensor->dtype()) {
      throw DataError(path, "this state of a training lacks a fitting " + name + way_out());
    }
    tensor->copy_(*found);
  }
}

void hash_network(const Graph& graph, Sha256& hash) {
  for (const Node& node : graph.nodes()) {
    if (const auto* op = std::get_if<DuplicatedConv>(&node.op)) {
      hash.update(fmt::format("{} twice {} {}\n", node.name, fmt::join(op->duplicated, ","),
                              static_cast<int>(op->correction)));
    }
    for_each_tensor(node.op, [&](const char* suffix, const at::Tensor& tensor) {
      const at::Tensor plain = tensor.detach().to(at::kCPU).contiguous();
      hash.update(fmt::format("{}.{} {}\n", node.name, suffix, fmt::join(plain.sizes(), "x")));
      hash.update(plain.data_ptr(), plain.nbytes());
    });
  }
}

}  // namespace

std::string training_fingerprint(const Graph& graph, const Layouts& layouts, const Dataset& images,
                                 const Dataset& held_out, const TrainOptions& options) {
  Sha256 hash;
  hash.update(fmt::format(
      "training {} of {}: epochs {}, batch {}, lr {:.17g}, momentum {:.17g}, decay {:.17g}, "
      "augment {}, seed {}, {}, {} {}, {} {}\n",
      kVersion, graph.architecture, options.epochs, options.batch_size, options.learning_rate,
      options.momentum, options.weight_decay, options.augment, options.seed,
      options.device.is_cuda() ? "cuda" : "cpu", images.info().name, images.hash(),
      held_out.info().name, held_out.hash()));
  if (graph.normalisation) hash.update(numbers_of(*graph.normalisation) + "\n");
  for (const auto& [entry, layout] : layouts)
    hash.update(entry + " stored as " + layout_name(layout) + "\n");
  hash_network(graph, hash);
  return hash.hex();
}

TrainProgress TrainStateFile::load(const LiveTensors& tensors) const {
  if (path_.empty() || !std::filesystem::exists(path_)) return {};
  return read(tensors);
}

TrainProgress TrainStateFile::read(const LiveTensors& tensors) const {
  const CheckpointFile file = whole_file(path_);
  check_json(path_, file.metadata.value_or(""));
  try {
    const json record = json::parse(file.metadata.value_or(""));
    if (whole_number(record.at("training")) != kVersion ||
        record.at("fingerprint").get<std::string>() != fingerprint_) {
      throw UserError(path_ +
                      " is the state of another training (other options, images or starting "
                      "network)" +
                      way_out());
    }
    copy_into(tensors, file.tensors, path_);
    return from_json(record);
  } catch (const json::exception&) {
    throw DataError(path_, "is no state of a training" + way_out());
  }
}

void TrainStateFile::save(const LiveTensors& tensors, const TrainProgress& progress) const {
  if (path_.empty()) return;
  StateDict stored;
  for (const auto& [name, tensor] : tensors) {
    stored.set(name, tensor->detach().to(at::kCPU).contiguous());
  }
  write_pth(path_, stored, to_json(fingerprint_, progress).dump());
}

void TrainStateFile::remove() const {
  std::error_code none;
  if (!path_.empty()) std::filesystem::remove(link_target(path_), none);
}

}  // namespace sentinel
