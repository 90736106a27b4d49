// Where a trial's time goes: the whole network against its convolutions alone, and single flips in
// each layer against a run of everything. One thread, medians of interleaved rounds, as Markdown.
//   bench_engine MODEL [CHECKPOINT DATA] [images] [rounds]   random weights and images without
//   files
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>

#include "sentinel/fault/trial_engine.hpp"
#include "sentinel/graph/run.hpp"
#include "sentinel/models/model.hpp"
#include "sentinel/networks/load.hpp"
#include "sentinel/networks/selection.hpp"

namespace {

using namespace sentinel;

constexpr std::size_t kBatch = 16;  // trials at once
constexpr std::int64_t kBlock = 32;

double milliseconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return 1e3 * std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Medians of the works' times in `rounds` rounds of all of them in turn, after one round of
/// warm-up.
std::vector<double> medians(const std::vector<std::function<void()>>& works, int rounds) {
  std::vector<std::vector<double>> times(works.size());
  for (int round = -1; round < rounds; ++round)
    for (std::size_t w = 0; w < works.size(); ++w) {
      const double time = milliseconds(works[w]);
      if (round >= 0) times[w].push_back(time);
    }
  std::vector<double> result;
  for (std::vector<double>& samples : times) {
    std::sort(samples.begin(), samples.end());
    result.push_back(samples[samples.size() / 2]);
  }
  return result;
}

/// Everything that the convolutions and linear layers of a run read, by node.
struct Convolutions {
  Graph graph;
  std::vector<Trace> blocks;

  Convolutions(const Graph& original, const at::Tensor& images) : graph(original.clone()) {
    graph.to(at::kCPU, at::MemoryFormat::ChannelsLast);
    for (const at::Tensor& block : images.split(kBlock)) {
      Trace& trace = blocks.emplace_back(Trace{block.contiguous(at::MemoryFormat::ChannelsLast)});
      run(graph, trace);
    }
  }
  void alone() const {
    for (const Trace& trace : blocks)
      for (NodeId id = 1; id < graph.size(); ++id)
        if (as_conv(graph[id].op))
          apply(graph[id].op, {trace[static_cast<std::size_t>(graph[id].inputs[0])]});
  }
  void operators() const {
    for (const Trace& trace : blocks) run_lean(graph, {trace[0]}, 0);
  }
};

/// Two channels of a layer, so that everything behind it is run.
Faults two_channels(const FaultSpace& space, std::uint32_t tensor, std::uint8_t bit) {
  const FaultTensor& t = space.tensors()[tensor];
  return {{tensor, 1, bit}, {tensor, t.row + 1, bit}};
}

std::vector<TrialInput> one_channel_each(const FaultSpace& space, std::uint32_t tensor,
                                         std::size_t count) {
  const FaultTensor& t = space.tensors()[tensor];
  std::vector<TrialInput> trials;
  for (std::size_t i = 0; i < count; ++i)
    trials.push_back({{{tensor, (i * 7 + 3) * t.row % t.originals + i % t.row,
                        static_cast<std::uint8_t>(i % 2 == 0 ? 30 : 20)}},
                      kNoGroup});
  return trials;
}

}  // namespace

int main(int argc, char** argv) {
  at::set_num_threads(1);
  const at::NoGradGuard no_grad;
  const std::string model = argc > 1 ? argv[1] : "resnet20";
  const bool real = argc > 3;
  const std::int64_t count = argc > 4 ? std::stoll(argv[4]) : 256;
  const int rounds = argc > 5 ? std::stoi(argv[5]) : 5;
  const Comm comm = Comm::local();
  ModelSelection selection;
  selection.model = model;
  selection.dataset = real ? "cifar10" : "synthetic";
  if (real) {
    selection.checkpoint = argv[2];
    selection.data = argv[3];
  }
  const Graph graph = real ? load_model(comm, selection).graph : initial_model(model, 10, 1);
  const Dataset images = load_dataset(comm, selection, "synthetic", Split::kTest, count);
  const Batch batch = images.batch(0, images.size(), {});
  const Convolutions convolutions(graph, batch.images);
  TrialEngine engine(graph.clone(), batch, {});
  const FaultSpace& space = engine.space();

  const std::vector<double> dense =
      medians({[&] { convolutions.alone(); }, [&] { convolutions.operators(); },
               [&] { engine.run(two_channels(space, 0, 20)); },
               [&] { engine.run_reference(two_channels(space, 0, 20)); }},
              rounds);
  fmt::print(
      "{}, {} images in blocks of {}\n\n| dense run | ms | / convolutions |\n|---|---|---|\n",
      model, images.size(), kBlock);
  const char* names[] = {"convolutions alone", "LibTorch's operators, channels_last",
                         "engine, fault in the first layer", "reference path"};
  for (std::size_t i = 0; i < dense.size(); ++i)
    fmt::print("| {} | {:.1f} | {:.2f} |\n", names[i], dense[i], dense[i] / dense[0]);

  fmt::print(
      "\n| layer | from there on, ms | one channel, ms | of {} together, ms | reference / that |\n"
      "|---|---|---|---|---|\n",
      kBatch);
  for (std::uint32_t t = 0; t < space.tensors().size(); ++t) {
    const std::vector<TrialInput> trials = one_channel_each(space, t, kBatch);
    const std::vector<double> times = medians({[&] { engine.run(two_channels(space, t, 20)); },
                                               [&] {
                                                 for (const TrialInput& trial : trials)
                                                   engine.run(trial.faults);
                                               },
                                               [&] { engine.run_batch(trials); }},
                                              std::max(1, rounds / 2));
    const double alone = times[1] / kBatch, together = times[2] / kBatch;
    fmt::print("| {} | {:.1f} | {:.1f} | {:.1f} | {:.1f} |\n", space.tensors()[t].name, times[0],
               alone, together, dense[3] / together);
    std::fflush(stdout);
  }
}
