#include <spdlog/spdlog.h>
#include <torch/script.h>

#include <algorithm>
#include <set>
#include <sstream>

#include "models/script_recorder.hpp"
#include "models/script_source.hpp"
#include "models/stored_weights.hpp"
#include "sentinel/core/failure.hpp"
#include "sentinel/core/rng.hpp"
#include "sentinel/graph/run.hpp"
#include "sentinel/models/model.hpp"
#include "sentinel/models/script.hpp"

namespace sentinel {
namespace {

torch::jit::Module load(const Bytes& file, const std::string& source) {
  std::istringstream stream(std::string(reinterpret_cast<const char*>(file.data()), file.size()));
  try {
    torch::jit::Module network = torch::jit::load(stream, at::Device(at::kCPU));
    network.eval();
    return network;
  } catch (const std::exception& error) {
    if (failure_of(error).code == ExitCode::kEnvironment) throw;
    throw DataError(source, "LibTorch cannot load this TorchScript file: " + first_line(error));
  }
}

/// Half and double parameters and buffers become f32.
Conversion use_floats(torch::jit::Module& network) {
  Conversion conversion;
  std::set<const void*> done;  // one tensor may have several names
  for (auto [name, tensor] : script_state(network))
    if (tensor.is_floating_point() && done.insert(script_key(tensor)).second)
      tensor.set_data(conversion.to_float(name, tensor));
  return conversion;
}

std::array<double, 3> three_numbers(const torch::jit::Module& network, const char* name,
                                    const std::string& source) {
  std::array<double, 3> numbers{};
  const c10::IValue value = network.attr(name);
  if (!value.isDoubleList() || value.toDoubleVector().size() != numbers.size())
    throw DataError(source, std::string("its ") + name + " is no list of three numbers");
  const std::vector<double> list = value.toDoubleVector();
  std::copy(list.begin(), list.end(), numbers.begin());
  return numbers;
}

std::optional<Normalisation> normalisation_in(const torch::jit::Module& network,
                                              const std::string& source) {
  if (!network.hasattr(kScriptMean) || !network.hasattr(kScriptStd)) return std::nullopt;
  const Normalisation normalisation{three_numbers(network, kScriptMean, source),
                                    three_numbers(network, kScriptStd, source)};
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
void require_same_logits(torch::jit::Module& network, const Graph& graph, const at::Tensor& images,
                         const std::string& source) {
  constexpr double kTolerance = 1e-3;  // of max|z|: rounding is below it, a wrong operator is not
  const at::Tensor theirs = tensors_in(network.forward({images})).at(0);
  const at::Tensor ours = logits(graph, images);
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
  constexpr std::int64_t kRecorded = 2;        // images
  constexpr std::int64_t kChecked[] = {1, 5};  // other numbers, to tell constants
  const at::Tensor images = probes(kRecorded, dataset.shape);
  ScriptRecorder recorder(network, images, source);
  Graph graph = recorder.finish(walk_script(network, images, recorder, source));
  if (class_count(graph) != dataset.classes)
    throw DataError(source, "this network has " + std::to_string(class_count(graph)) +
                                " outputs, the data set " + dataset.name + " has " +
                                std::to_string(dataset.classes) + " classes");
  for (const std::int64_t count : kChecked)
    require_same_logits(network, graph, probes(count, dataset.shape), source);
  return graph;
}

}  // namespace

std::optional<Normalisation> script_normalisation(const Bytes& file, const std::string& source) {
  return normalisation_in(load(file, source), source);
}

StateDict script_tensors(const Bytes& file, const std::string& source) {
  StateDict tensors;
  for (const auto& [name, tensor] : script_state(load(file, source)))
    tensors.set(name, tensor.detach().contiguous());
  return tensors;
}

Graph import_script(const Bytes& file, const std::string& source, const DatasetInfo& dataset,
                    std::string* stored_types) {
  const at::NoGradGuard no_grad;
  torch::jit::Module network = load(file, source);
  Graph graph;
  Conversion conversion;
  try {
    conversion = use_floats(network);
    graph = convert(network, dataset, source);
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    if (failure_of(error).code == ExitCode::kEnvironment) throw;
    throw DataError(source, "this TorchScript network cannot be run: " + first_line(error));
  }
  if (!conversion.types().empty()) spdlog::warn("{}", conversion.describe(source));
  if (stored_types != nullptr) *stored_types = conversion.types();
  graph.architecture = architecture_of(network);
  graph.dataset = dataset.name;
  if (const auto own = normalisation_in(network, source)) set_normalisation(graph, *own);
  const StateDict kept = state_dict(graph);
  for (const auto& entry : script_state(network))
    if (kept.contains(entry.first)) graph.state_order.push_back(entry.first);
  return graph;
}

}  // namespace sentinel
