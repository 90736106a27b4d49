#include <caffe2/serialize/read_adapter_interface.h>
#include <spdlog/spdlog.h>
#include <torch/script.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <set>

#include "models/script_check.hpp"
#include "models/script_limits.hpp"
#include "models/script_recorder.hpp"
#include "models/storage.hpp"
#include "models/stored_weights.hpp"
#include "sentinel/core/failure.hpp"
#include "sentinel/core/rng.hpp"
#include "sentinel/graph/profile.hpp"
#include "sentinel/graph/run.hpp"
#include "sentinel/io/script_file.hpp"
#include "sentinel/models/model.hpp"
#include "sentinel/models/script.hpp"

namespace sentinel {
namespace {

/// An archive in memory.
class Reader : public caffe2::serialize::ReadAdapterInterface {
 public:
  explicit Reader(Bytes bytes) : bytes_(std::move(bytes)) {}
  std::size_t size() const override { return bytes_.size(); }
  std::size_t read(std::uint64_t at, void* to, std::size_t n, const char*) const override {
    if (at >= bytes_.size()) return 0;
    const std::size_t count = std::min(n, bytes_.size() - static_cast<std::size_t>(at));
    std::memcpy(to, bytes_.data() + at, count);
    return count;
  }

 private:
  Bytes bytes_;
};

/// LibTorch reads only what was checked and written again; nothing of the file runs.
torch::jit::Module load(const Bytes& file, const std::string& source) {
  const auto archive = std::make_shared<Reader>(checked_script(file, source));
  try {
    torch::jit::Module network = torch::jit::load(archive, at::Device(at::kCPU));
    check_script(network, source);
    network.eval();
    return network;
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    if (failure_of(error).code == ExitCode::kEnvironment) throw;
    throw DataError(source, "LibTorch cannot load this TorchScript file: " + first_line(error));
  }
}

/// Half and double parameters and buffers become f32; halves are kept as such in Conversion::kept.
Conversion use_floats(torch::jit::Module& network, const std::string& source) {
  Conversion conversion;
  std::set<const void*> done;  // one tensor may have several names
  for (auto [name, tensor] : script_state(network))
    if (tensor.is_floating_point() && done.insert(script_key(tensor)).second)
      tensor.set_data(conversion.to_float(name, tensor, source));
  return conversion;
}

std::array<double, 3> three_numbers(const std::vector<double>& list, const char* name,
                                    const std::string& source) {
  std::array<double, 3> numbers{};
  if (list.size() != numbers.size())
    throw DataError(source, std::string("its ") + name + " is no list of three numbers");
  std::copy(list.begin(), list.end(), numbers.begin());
  return numbers;
}

std::optional<Normalisation> normalisation_in(const ScriptNumbers& contents,
                                              const std::string& source) {
  if (contents.mean.empty() || contents.std.empty()) return std::nullopt;
  const Normalisation normalisation{three_numbers(contents.mean, kScriptMean, source),
                                    three_numbers(contents.std, kScriptStd, source)};
  const std::string fault = fault_of(normalisation);
  if (!fault.empty()) throw DataError(source, "its normalisation cannot be: " + fault);
  return normalisation;
}

/// Standard normal, as normalised images are about.
at::Tensor probes(std::int64_t count, const std::array<std::int64_t, 3>& shape) {
  Rng rng({0, 0, static_cast<std::uint64_t>(count), Purpose::kInitialWeights});
  at::Tensor images = at::empty({count, shape[0], shape[1], shape[2]}, at::kFloat);
  float* values = images.data_ptr<float>();
  for (std::int64_t i = 0; i < images.numel(); ++i) values[i] = static_cast<float>(rng.normal());
  return images;
}

/// What is not understood must not go unnoticed: an in-place operator on a view, say, or a size
/// that the tracing made a constant.
void require_same_logits(const torch::jit::Module& network, const Graph& graph,
                         const at::Tensor& images, const std::string& source) {
  constexpr double kTolerance = 1e-3;  // of max|z|: rounding is below it, a wrong operator is not
  const at::Tensor ours = logits(graph, images);
  const auto results = tensors_in(walk_script(network, images.clone(), nullptr, source));
  if (results.empty()) throw DataError(source, "it returns no tensor");
  const at::Tensor& theirs = results[0];
  if (theirs.sizes() != ours.sizes())
    throw DataError(source, "for a batch of " + std::to_string(images.size(0)) +
                                " it returns logits " + shape_text(theirs) + " instead of " +
                                shape_text(ours) +
                                ": squeeze() without a dimension also drops a batch of one, and a "
                                "number of images may stand in the file as a constant; write "
                                "flatten(1) and trace again");
  if (!at::isfinite(theirs).all().item<bool>())
    throw DataError(source, "its logits are NaN or Inf on normal random images; check its weights");
  const double scale = theirs.abs().max().item<double>();
  if (at::allclose(ours, theirs, 0, kTolerance * std::max(scale, 1e-30), true)) return;
  throw DataError(source,
                  "its operators were understood, but give other logits than the file itself for "
                  "a batch of " +
                      std::to_string(images.size(0)) +
                      "; is a view changed in place, or does a number of images stand in it as a "
                      "constant?");
}

/// "ResNet.ts": the class, wherever the file lies; no family has such a name.
std::string architecture_of(const torch::jit::Module& network) {
  const auto name = network.type()->name();
  return (name ? name->name() : "Network") + ".ts";
}

Graph convert(torch::jit::Module& network, const DatasetInfo& dataset, const std::string& source) {
  constexpr std::int64_t kRecorded = 2, kCompared = 5, kAlone = 1;  // images, to tell constants
  constexpr std::uint64_t kMaxTensor = std::uint64_t{4} << 30;      // bytes; VGG-16: 411 MB
  const TensorLimit limit(source, kMaxTensor);
  const at::Tensor images = probes(kRecorded, dataset.shape);
  ScriptRecorder recorder(network, images, source);
  Graph graph = recorder.finish(walk_script(network, images, &recorder, source));
  if (class_count(graph) != dataset.classes)
    throw DataError(source, "this network has " + std::to_string(class_count(graph)) +
                                " outputs, the data set " + dataset.name + " has " +
                                std::to_string(dataset.classes) + " classes");
  for (const std::int64_t count : {kCompared, kAlone})
    require_same_logits(network, graph, probes(count, dataset.shape), source);
  return graph;
}

}  // namespace

std::optional<Normalisation> script_normalisation(const Bytes& file, const std::string& source) {
  return normalisation_in(read_script_numbers(file, source), source);
}

Graph import_script(const Bytes& file, const std::string& source, const DatasetInfo& dataset,
                    std::string* stored_types) {
  const at::NoGradGuard no_grad;
  torch::jit::Module network = load(file, source);
  Graph graph;
  Conversion conversion;
  try {
    conversion = use_floats(network, source);
    graph = convert(network, dataset, source);
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    if (failure_of(error).code == ExitCode::kEnvironment) throw;
    throw DataError(source, "this TorchScript network cannot be run: " + first_line(error));
  }
  conversion.log(source);
  keep_storage(graph, conversion.kept(), source);
  if (stored_types != nullptr) *stored_types = conversion.types();
  graph.architecture = architecture_of(network);
  graph.dataset = dataset.name;
  if (const auto own = script_normalisation(file, source)) set_normalisation(graph, *own);
  const StateDict kept = state_dict(graph);
  for (const auto& entry : script_state(network))
    if (kept.contains(entry.first)) graph.state_order.push_back(entry.first);
  return graph;
}

}  // namespace sentinel
