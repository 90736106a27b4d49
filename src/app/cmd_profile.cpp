#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "app/command.hpp"
#include "app/options.hpp"
#include "app/output.hpp"
#include "sentinel/campaign/setup.hpp"
#include "sentinel/graph/run.hpp"
#include "sentinel/protect/train.hpp"

namespace sentinel {
namespace {

using Clock = std::chrono::steady_clock;

double milliseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

/// Value at share q of the sorted samples.
double quantile(std::vector<double> samples, double q) {
  std::sort(samples.begin(), samples.end());
  return samples.at(static_cast<std::size_t>(q * static_cast<double>(samples.size() - 1) + 0.5));
}

class Profile : public Command {
 public:
  CLI::App* add_to(CLI::App& parent) override {
    CLI::App* app = parent.add_subcommand(
        "profile", "Latency, parameters and MACs of a network, layer by layer");
    add_selection(*app, selection_);
    add_seed_checkpoint(*app, selection_);
    add_compute(*app, compute_, 0);
    app->add_option("--batch-size", batch_size_, "Images per run")->capture_default_str();
    app->add_option("--warmup", warmup_, "Runs that are not counted")->capture_default_str();
    app->add_option("--runs", runs_, "Runs that are counted")->capture_default_str();
    add_images(*app, images_, "test images for the accuracy");
    app->add_flag("--json", json_, "Print one JSON object");
    return app;
  }

  ExitCode run(const Context& context) override {
    const Comm& comm = context.comm;
    comm.agree([&] {
      if (batch_size_ < 1 || runs_ < 1 || warmup_ < 0)
        throw UserError("--batch-size and --runs must be at least 1");
      device_ = choose_device(comm, resolved(compute_, comm));
    });
    NamedModel model = load_model(comm, selection_);
    const Dataset images =
        load_dataset(comm, selection_, model.graph.dataset, Split::kTest, images_);
    comm.from_root([&] {
      model.graph.to(device_);
      accuracy_ = evaluate(model.graph, images, device_);
      measure(model.graph,
              images.batch(0, std::min(batch_size_, images.size())).images.to(device_));
      print(model.graph);
      return Bytes();
    });
    return ExitCode::kDone;
  }

 private:
  void measure(const Graph& graph, const at::Tensor& images) {
    const at::NoGradGuard no_grad;
    batch_size_ = images.size(0);
    Trace trace(static_cast<std::size_t>(graph.size()));
    trace[0] = images;
    layers_.resize(static_cast<std::size_t>(graph.size()));
    for (int k = 0; k < warmup_ + runs_; ++k) {
      const auto start = Clock::now();
      static_cast<void>(logits(graph, trace[0]).cpu());
      if (k >= warmup_) total_.push_back(milliseconds_since(start));
      time_layers(graph, trace, k >= warmup_);
    }
  }

  void time_layers(const Graph& graph, Trace& trace, bool count) {
    for (NodeId id = 1; id < graph.size(); ++id) {
      std::vector<at::Tensor> inputs;
      for (NodeId input : graph[id].inputs)
        inputs.push_back(trace.at(static_cast<std::size_t>(input)));
      const auto start = Clock::now();
      const at::Tensor output = sentinel::apply(graph[id].op, inputs);
      if (device_.is_cuda()) static_cast<void>(output.flatten()[0].item<float>());
      if (count) layers_.at(static_cast<std::size_t>(id)).push_back(milliseconds_since(start));
      trace.at(static_cast<std::size_t>(id)) = output;
    }
  }

  void print(const Graph& graph) const {
    const ModelCost cost = model_cost(graph);
    const double median = quantile(total_, 0.5) / static_cast<double>(batch_size_);
    const double low = quantile(total_, 0.25) / static_cast<double>(batch_size_);
    const double high = quantile(total_, 0.75) / static_cast<double>(batch_size_);
    if (json_) return print_json(cost, median, low, high);
    std::vector<std::vector<std::string>> rows = {{"layer", "ms per image", "parameters", "MACs"}};
    for (std::size_t i = 1; i < cost.layers.size(); ++i)
      rows.push_back(
          {cost.layers[i].name,
           fmt::format("{:.4f}", quantile(layers_[i], 0.5) / static_cast<double>(batch_size_)),
           with_spaces(cost.layers[i].parameters), with_spaces(cost.layers[i].macs)});
    rows.push_back({"whole network", fmt::format("{:.4f}", median), with_spaces(cost.parameters),
                    with_spaces(cost.macs)});
    print_table(rows);
    fmt::print("accuracy: {} of {} test images right\n", accuracy_.correct, accuracy_.images);
    fmt::print(
        "latency: median {:.4f} ms per image, quartiles {:.4f} and {:.4f}, {} runs of {} images, "
        "{} thread(s), {}\n",
        median, low, high, runs_, batch_size_, at::get_num_threads(), device_.str());
  }

  void print_json(const ModelCost& cost, double median, double low, double high) const {
    const auto share = [&](std::int64_t n) {
      return static_cast<double>(n) / static_cast<double>(accuracy_.images);
    };
    nlohmann::json report = {
        {"images", accuracy_.images},
        {"correct", accuracy_.correct},
        {"top1", share(accuracy_.correct)},
        {"top5", share(accuracy_.top5)},
        {"parameters", cost.parameters},
        {"macs", cost.macs},
        {"memory_bytes", cost.memory_bytes},
        {"latency_ms_per_image", {{"median", median}, {"quartile1", low}, {"quartile3", high}}},
        {"batch_size", batch_size_},
        {"runs", runs_},
        {"device", device_.str()}};
    for (std::size_t i = 1; i < cost.layers.size(); ++i)
      report["layers"].push_back(
          {{"name", cost.layers[i].name},
           {"parameters", cost.layers[i].parameters},
           {"macs", cost.layers[i].macs},
           {"ms_per_image", quantile(layers_[i], 0.5) / static_cast<double>(batch_size_)}});
    fmt::print("{}\n", report.dump());
  }

  ModelSelection selection_;
  Compute compute_;
  std::int64_t images_ = -1, batch_size_ = 32;
  int warmup_ = 5, runs_ = 20;
  bool json_ = false;
  at::Device device_ = at::kCPU;
  Accuracy accuracy_;
  std::vector<double> total_;                // [ms] per run
  std::vector<std::vector<double>> layers_;  // [ms] per run, by node
};

}  // namespace

std::unique_ptr<Command> make_profile() {
  return std::make_unique<Profile>();
}

}  // namespace sentinel
