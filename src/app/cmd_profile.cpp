#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "app/command.hpp"
#include "app/options.hpp"
#include "app/output.hpp"
#include "app/print.hpp"
#include "sentinel/models/model.hpp"
#include "sentinel/networks/device.hpp"
#include "sentinel/networks/latency.hpp"
#include "sentinel/networks/load.hpp"
#include "sentinel/networks/normalisation.hpp"
#include "sentinel/networks/selection.hpp"
#include "sentinel/transform/train.hpp"

namespace sentinel {
namespace {

/// A network with everything that was found out about it.
struct Profiled {
  std::string checkpoint;
  Graph graph;
  ModelCost cost;
  Accuracy accuracy;
  Latency latency;
  std::string constants;  // by which its images are normalised
};

std::string ratio_text(double ratio) {
  return fmt::format("{:.4f}", ratio);
}

std::string ratio_text(std::int64_t after, std::int64_t before) {
  return ratio_text(static_cast<double>(after) / static_cast<double>(before));
}

class Profile : public Command {
 public:
  CLI::App* add_to(CLI::App& parent) override {
    CLI::App* app = parent.add_subcommand(
        "profile", "Latency, parameters and MACs of a network, layer by layer");
    add_selection(*app, selection_);
    add_seed_checkpoint(*app, selection_);
    add_compute(*app, compute_, 0);
    app->add_option("--against", against_,
                    "Checkpoints to compare with it, run by run (they describe themselves)");
    app->add_flag("--all-layers", all_layers_, "Layer by layer for those of --against too");
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
    std::vector<Profiled> models = load(comm);
    const Dataset images =
        load_dataset(comm, selection_, models.front().graph.dataset, Split::kTest, images_);
    comm.from_root([&] {
      measure(models, images);
      print(models);
      return Bytes();
    });
    return ExitCode::kDone;
  }

 private:
  /// The network and those to compare with it. Collective.
  std::vector<Profiled> load(const Comm& comm) const {
    std::vector<Profiled> models;
    models.push_back({selection_.checkpoint, load_model(comm, selection_).graph, {}, {}, {}, {}});
    for (const std::string& file : against_) {
      ModelSelection other;
      other.checkpoint = file;
      models.push_back({file, load_model(comm, other).graph, {}, {}, {}, {}});
    }
    comm.agree([&] {
      for (const Profiled& model : models)
        if (model.graph.dataset != models.front().graph.dataset)
          throw UserError("--against " + model.checkpoint + " is a network for " +
                          model.graph.dataset + ", not for " + models.front().graph.dataset +
                          "; compare networks for the same data set");
    });
    return models;
  }

  void measure(std::vector<Profiled>& models, const Dataset& images) {
    std::vector<const Graph*> graphs;
    for (Profiled& model : models) {
      model.cost = model_cost(model.graph);
      model.accuracy = evaluate(model.graph, images, device_);
      warn_of_fault_free(model.checkpoint, model.graph, model.accuracy, images);
      model.constants = in_words(normalisation_of(model.graph, images));
      model.graph.to(device_);
      graphs.push_back(&model.graph);
    }
    batch_size_ = std::min(batch_size_, images.size());
    const auto latencies = measure_latency(
        graphs, images.batch(0, batch_size_, models.front().graph.normalisation).images.to(device_),
        warmup_, runs_, all_layers_ ? models.size() : 1);
    for (std::size_t k = 0; k < models.size(); ++k) models[k].latency = latencies[k];
  }

  /// [ms] of a run -> [ms] per image.
  Quartiles per_image(const std::vector<double>& runs) const {
    const Quartiles q = quartiles(runs);
    const auto images = static_cast<double>(batch_size_);
    return {q.first / images, q.median / images, q.third / images};
  }

  void print(const std::vector<Profiled>& models) const {
    if (json_) return print_json(models);
    for (const Profiled& model : models)
      if (!model.latency.layers.empty()) print_layers(model, models.size() > 1);
    const Profiled& first = models.front();
    const Quartiles latency = per_image(first.latency.runs);
    say("accuracy: {} of {} test images right\n", first.accuracy.correct, first.accuracy.images);
    for (const Profiled& model : models)
      say("images{} normalised by {}\n", models.size() > 1 ? " of " + model.checkpoint : "",
          model.constants);
    say("latency: median {:.4f} ms per image, quartiles {:.4f} and {:.4f}, {} runs of {} images, "
        "{} thread(s), {}\n",
        latency.median, latency.first, latency.third, runs_, batch_size_, at::get_num_threads(),
        device_.str());
    if (models.size() > 1) print_comparison(models);
  }

  void print_layers(const Profiled& model, bool named) const {
    const ModelCost& cost = model.cost;
    if (named) say("{}\n", model.checkpoint);
    std::vector<std::vector<std::string>> rows = {{"layer", "ms per image", "parameters", "MACs"}};
    for (std::size_t i = 1; i < cost.layers.size(); ++i)
      rows.push_back({cost.layers[i].name,
                      fmt::format("{:.4f}", per_image(model.latency.layers[i]).median),
                      with_spaces(cost.layers[i].parameters), with_spaces(cost.layers[i].macs)});
    rows.push_back({"whole network", fmt::format("{:.4f}", per_image(model.latency.runs).median),
                    with_spaces(cost.parameters), with_spaces(cost.macs)});
    print_table(rows);
  }

  /// One column a network and, from the second on, its ratio to the first.
  void print_comparison(const std::vector<Profiled>& models) const {
    std::vector<std::vector<std::string>> rows = {{""},
                                                  {"parameters"},
                                                  {"MACs per image"},
                                                  {"memory [bytes]"},
                                                  {"latency [ms per image]"},
                                                  {"  quartiles"},
                                                  {"accuracy [%]"}};
    for (const Profiled& model : models) {
      add_column(rows, measured(model));
      if (&model != &models.front()) add_column(rows, ratios(model, models.front()));
    }
    say("\n");
    print_table(rows);
    say("the latency's ratio is the median of the ratios run by run\n");
  }

  static void add_column(std::vector<std::vector<std::string>>& rows,
                         const std::vector<std::string>& column) {
    for (std::size_t r = 0; r < rows.size(); ++r) rows[r].push_back(column.at(r));
  }

  std::vector<std::string> measured(const Profiled& model) const {
    const Quartiles latency = per_image(model.latency.runs);
    return {std::filesystem::path(model.checkpoint).filename().string(),
            with_spaces(model.cost.parameters),
            with_spaces(model.cost.macs),
            with_spaces(model.cost.memory_bytes),
            fmt::format("{:.4f}", latency.median),
            fmt::format("[{:.4f}, {:.4f}]", latency.first, latency.third),
            percent(share(model.accuracy.correct, model.accuracy))};
  }

  static std::vector<std::string> ratios(const Profiled& model, const Profiled& first) {
    const Quartiles latency = latency_ratio(model.latency, first.latency);
    return {"ratio",
            ratio_text(model.cost.parameters, first.cost.parameters),
            ratio_text(model.cost.macs, first.cost.macs),
            ratio_text(model.cost.memory_bytes, first.cost.memory_bytes),
            ratio_text(latency.median),
            fmt::format("[{}, {}]", ratio_text(latency.first), ratio_text(latency.third)),
            ""};
  }

  static double share(std::int64_t n, const Accuracy& accuracy) {
    return static_cast<double>(n) / static_cast<double>(accuracy.images);
  }

  static nlohmann::json json_of(const Quartiles& q) {
    return {{"median", q.median}, {"quartile1", q.first}, {"quartile3", q.third}};
  }

  nlohmann::json json_of(const Profiled& model) const {
    const Accuracy& accuracy = model.accuracy;
    nlohmann::json report = {{"images", accuracy.images},
                             {"correct", accuracy.correct},
                             {"not_finite", accuracy.logits.not_finite()},
                             {"top1", share(accuracy.correct, accuracy)},
                             {"top5", share(accuracy.top5, accuracy)},
                             {"parameters", model.cost.parameters},
                             {"macs", model.cost.macs},
                             {"memory_bytes", model.cost.memory_bytes},
                             {"latency_ms_per_image", json_of(per_image(model.latency.runs))}};
    for (std::size_t i = 1; i < model.latency.layers.size(); ++i)
      report["layers"].push_back({{"name", model.cost.layers[i].name},
                                  {"parameters", model.cost.layers[i].parameters},
                                  {"macs", model.cost.layers[i].macs},
                                  {"ms_per_image", per_image(model.latency.layers[i]).median}});
    return report;
  }

  /// The first network's members at the top; under "models" all of them, with their ratio to it.
  void print_json(const std::vector<Profiled>& models) const {
    nlohmann::json report = json_of(models.front());
    report["batch_size"] = batch_size_;
    report["runs"] = runs_;
    report["device"] = device_.str();
    for (const Profiled& model : models) {
      nlohmann::json entry = json_of(model);
      entry["checkpoint"] = model.checkpoint;
      entry["latency_ratio"] = json_of(latency_ratio(model.latency, models.front().latency));
      report["models"].push_back(entry);
    }
    say_json(report);
  }

  ModelSelection selection_;
  Compute compute_;
  std::vector<std::string> against_;
  std::int64_t images_ = -1, batch_size_ = 32;
  int warmup_ = 5, runs_ = 20;
  bool all_layers_ = false, json_ = false;
  at::Device device_ = at::kCPU;
};

}  // namespace

std::unique_ptr<Command> make_profile() {
  return std::make_unique<Profile>();
}

}  // namespace sentinel
