#include "sentinel/fault/fault_free.hpp"

#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <string_view>

#include "sentinel/core/error.hpp"
#include "sentinel/core/log.hpp"
#include "sentinel/fault/outcome.hpp"
#include "sentinel/graph/run.hpp"
#include "sentinel/graph/visit.hpp"

namespace sentinel {
namespace {

constexpr std::int64_t kRandom = 2;  // images, where none are given

bool all_finite(const at::Tensor& tensor) {
  return at::isfinite(tensor).all().item<bool>();
}

at::Tensor broken_values(const Op& op, std::string_view suffix, const at::Tensor& tensor) {
  if (suffix == "running_var")
    return (tensor >= -std::get<BatchNorm>(op).eps).logical_not();  // NaN too
  return at::isfinite(tensor).logical_not();
}

/// Of standard normal pixels, as normalised images have them.
at::Tensor random_images(const Graph& graph) {
  const auto& input = std::get<Input>(graph[0].op);
  at::Tensor images =
      at::empty({kRandom, input.channels, input.size[0], input.size[1]}, at::kFloat);
  Rng rng({0, 0, 0, Purpose::kInitialWeights});
  float* pixels = images.data_ptr<float>();
  for (std::int64_t i = 0; i < images.numel(); ++i) pixels[i] = static_cast<float>(rng.normal());
  return images;
}

}  // namespace

void FaultFreeLogits::add(const at::Tensor& logits) {
  const at::Tensor predictions = predictions_of(logits);
  const auto* predicted = predictions.data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < predictions.numel(); ++i) {
    if (predicted[i] >= 0) continue;
    if (not_finite_++ == 0) first_ = images_ + i;
  }
  if (!row_.defined() && logits.size(0) > 0) row_ = logits[0].clone();
  alike_ = alike_ && (logits.size(0) == 0 || logits.eq(row_).all().item<bool>());
  images_ += logits.size(0);
}

std::string first_not_finite_node(const Graph& graph, const at::Tensor& images) {
  const at::NoGradGuard no_grad;
  Trace trace{images};
  run(graph, trace);
  for (NodeId id = 0; id < graph.size(); ++id)
    if (!all_finite(trace[static_cast<std::size_t>(id)])) return graph[id].name;
  return "";
}

std::vector<BrokenTensor> broken_tensors(const Graph& graph) {
  std::vector<BrokenTensor> found;
  for (const Node& node : graph.nodes())
    for_each_tensor(node.op, [&](std::string_view suffix, const at::Tensor& tensor) {
      if (suffix != "weight" && suffix != "bias" && suffix.rfind("running_", 0) != 0) return;
      const auto broken = broken_values(node.op, suffix, tensor).sum().item<std::int64_t>();
      if (broken > 0)
        found.push_back({node.name + "." + std::string(suffix), broken, tensor.numel()});
    });
  return found;
}

std::string in_words(const std::vector<BrokenTensor>& tensors) {
  const auto& [name, broken, values] = tensors.at(0);
  const std::size_t more = tensors.size() - 1;
  const bool variance = name.substr(name.rfind('.') + 1) == "running_var";
  return fmt::format("{} of {} values of {} are NaN or {}{}", broken, values, name,
                     variance ? "negative" : "Inf",
                     more == 0   ? ""
                     : more == 1 ? " (and some of one more tensor)"
                                 : fmt::format(" (and some of {} more tensors)", more));
}

void require_sound_tensors(const std::string& source, const Graph& graph) {
  const std::vector<BrokenTensor> broken = broken_tensors(graph);
  if (broken.empty()) return;
  throw DataError(
      source, in_words(broken) + " without any fault; check how the network was trained and saved");
}

void require_finite_logits(const std::string& source, const Graph& graph,
                           const FaultFreeLogits& logits, const ImageOf& image,
                           const std::string& what) {
  if (logits.not_finite() == 0) return;
  const std::string node = first_not_finite_node(graph, image(logits.first_not_finite()));
  throw DataError(
      source,
      fmt::format("the logits of {} of {} {} (first: image {}) are NaN or Inf without any fault{}; "
                  "check the weights and the normalisation",
                  logits.not_finite(), logits.images(), what, logits.first_not_finite(),
                  node.empty() ? "" : ", from layer " + node + " on"));
}

void require_fault_free(const std::string& source, const Graph& graph, const at::Tensor& images,
                        const std::string& what) {
  require_sound_tensors(source, graph);
  const at::NoGradGuard no_grad;
  const at::Tensor own = images.defined() ? images : random_images(graph);
  FaultFreeLogits found;
  for (const at::Tensor& block : own.split(kImagesAtOnce))
    found.add(logits(graph, block).to(at::kCPU));
  const ImageOf image = [&](std::int64_t number) { return own.narrow(0, number, 1); };
  require_finite_logits(source, graph, found, image, images.defined() ? what : "random images");
}

void warn_of_constant_logits(const std::string& source, const FaultFreeLogits& logits) {
  if (!logits.constant()) return;
  spdlog::warn("{}: all {} images have the same logits without any fault; check the weights",
               source, logits.images());
}

}  // namespace sentinel
