// The searches of `deepvigor` against the reference path, which runs the network operator by
// operator: one block of images, some layers, in turns. One thread; CPU time of the process,
// medians, as Markdown.
//   bench_deltas MODEL CHECKPOINT DATA IMAGES ROUNDS CHANNELS [LAYER]...   by default all layers
// Fails where the exhaustive search finds something else than the reference path.
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <iterator>
#include <optional>

#include "sentinel/graph/profile.hpp"
#include "sentinel/networks/load.hpp"
#include "sentinel/networks/selection.hpp"
#include "transform/importance_methods.hpp"
#include "transform/tolerance_search.hpp"

namespace {

using namespace sentinel;

double user_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec) +
         1e-6 * static_cast<double>(usage.ru_utime.tv_usec);
}

double seconds(const std::function<void()>& work) {
  const double start = user_seconds();
  work();
  return user_seconds() - start;
}

double median(std::vector<double> samples) {
  std::sort(samples.begin(), samples.end());
  return samples.empty() ? 0 : samples[samples.size() / 2];
}

constexpr ToleranceOrder kOrders[] = {ToleranceOrder::kExhaustive, ToleranceOrder::kProportional};

struct Times {
  double setup = 0;
  std::vector<double> reference, fast[std::size(kOrders)];
  std::size_t searches = 0, different[std::size(kOrders)] = {};
};

Times measure(const FusedNet& net, const at::Tensor& images, NodeId conv, std::int64_t most,
              int rounds) {
  std::vector<FactorUnit> units;
  const std::int64_t all = channel_counts(net.graph())[static_cast<std::size_t>(conv)];
  for (std::int64_t c = 0; c < std::min(most, all); ++c) units.push_back({c, -1});
  const ToleranceQuery query{conv, units, grid_steps(true), ToleranceRule::kRanking};
  const Trace trace = trace_around(net.graph(), images, conv, values_around(net, conv));
  Times times;
  std::optional<ToleranceSearch> search;
  times.setup = seconds([&] { search.emplace(net, query, trace, "images", 0); });
  const ToleranceSearch by_reference(net, query, trace, "images", 0, EnginePath::kReference);
  const auto find = [&](const ToleranceSearch& own, ToleranceOrder order) {
    return own.find(0, units.size(), order).found;
  };
  for (int round = 0; round < rounds; ++round) {
    std::vector<std::uint8_t> reference, found;
    times.reference.push_back(
        seconds([&] { reference = find(by_reference, ToleranceOrder::kExhaustive); }));
    times.searches += reference.size();
    for (std::size_t o = 0; o < std::size(kOrders); ++o) {
      times.fast[o].push_back(seconds([&] { found = find(*search, kOrders[o]); }));
      for (std::size_t i = 0; i < found.size(); ++i) times.different[o] += found[i] != reference[i];
    }
  }
  return times;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 7) return 64;
  at::set_num_threads(1);
  const at::NoGradGuard no_grad;
  ModelSelection selection;
  selection.model = argv[1];
  selection.checkpoint = argv[2];
  selection.dataset = "cifar10";
  selection.data = argv[3];
  const int rounds = std::stoi(argv[5]);
  const std::vector<std::string> layers(argv + 7, argv + argc);
  const Comm comm = Comm::local();
  Graph graph = load_model(comm, selection).graph;
  const Dataset pictures =
      load_dataset(comm, selection, "synthetic", Split::kTrain, std::stoll(argv[4]));
  graph.to(at::kCPU, at::MemoryFormat::ChannelsLast);
  const FusedNet net(graph);
  const at::Tensor images =
      pictures.batch(0, std::min(pictures.size(), kImagesAtOnce), graph.normalisation)
          .images.contiguous(at::MemoryFormat::ChannelsLast);
  fmt::print(
      "| layer | setup [s] | reference [s] | exhaustive [s] | different | proportional [s] | "
      "different | searches |\n|---|---|---|---|---|---|---|---|\n");
  std::size_t different = 0;
  for (const NodeId conv : convolutions(graph)) {
    const std::string& name = graph[conv].name;
    if (!layers.empty() && std::find(layers.begin(), layers.end(), name) == layers.end()) continue;
    const Times times = measure(net, images, conv, std::stoll(argv[6]), rounds);
    fmt::print("| {} | {:.2f} | {:.2f} | {:.2f} | {} | {:.2f} | {} | {} |\n", name, times.setup,
               median(times.reference), median(times.fast[0]), times.different[0],
               median(times.fast[1]), times.different[1], times.searches);
    std::fflush(stdout);
    different += times.different[0];
  }
  return different == 0 ? 0 : 1;
}
