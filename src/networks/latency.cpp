#include "sentinel/networks/latency.hpp"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>

#include "sentinel/graph/run.hpp"

namespace sentinel {
namespace {

using Clock = std::chrono::steady_clock;

double milliseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

double time_network(const Graph& graph, const at::Tensor& images) {
  const auto start = Clock::now();
  static_cast<void>(logits(graph, images).cpu());
  return milliseconds_since(start);
}

/// One run, node by node; times are added to `layers` where they count.
void time_layers(const Graph& graph, const at::Tensor& images, bool count,
                 std::vector<std::vector<double>>& layers) {
  Trace trace(static_cast<std::size_t>(graph.size()));
  trace[0] = images;
  layers.resize(trace.size());
  for (NodeId id = 1; id < graph.size(); ++id) {
    std::vector<at::Tensor> inputs;
    for (NodeId input : graph[id].inputs)
      inputs.push_back(trace.at(static_cast<std::size_t>(input)));
    const auto start = Clock::now();
    const at::Tensor output = sentinel::apply(graph[id].op, inputs);
    if (output.is_cuda()) static_cast<void>(output.flatten()[0].item<float>());  // waits for it
    if (count) layers.at(static_cast<std::size_t>(id)).push_back(milliseconds_since(start));
    trace.at(static_cast<std::size_t>(id)) = output;
  }
}

}  // namespace

Quartiles quartiles(std::vector<double> samples) {
  std::sort(samples.begin(), samples.end());
  const auto at = [&](double q) {
    const double place = q * static_cast<double>(samples.size() - 1);
    return samples.at(static_cast<std::size_t>(place + 0.5));
  };
  return {at(0.25), at(0.5), at(0.75)};
}

Quartiles latency_ratio(const Latency& after, const Latency& before) {
  std::vector<double> ratios;
  for (std::size_t run = 0; run < after.runs.size(); ++run)
    ratios.push_back(after.runs[run] / before.runs.at(run));
  return quartiles(ratios);
}

std::vector<Latency> measure_latency(const std::vector<const Graph*>& networks,
                                     const at::Tensor& images, int warmup, int runs,
                                     std::size_t layers) {
  const at::NoGradGuard no_grad;
  std::vector<Latency> latencies(networks.size());
  for (int round = 0; round < warmup + runs; ++round)
    for (std::size_t k = 0; k < networks.size(); ++k) {
      const std::size_t which = (k + static_cast<std::size_t>(round)) % networks.size();
      const double time = time_network(*networks[which], images);
      if (round >= warmup) latencies[which].runs.push_back(time);
    }
  for (int round = 0; round < warmup + runs; ++round)
    for (std::size_t k = 0; k < std::min(layers, networks.size()); ++k)
      time_layers(*networks[k], images, round >= warmup, latencies[k].layers);
  return latencies;
}

}  // namespace sentinel
