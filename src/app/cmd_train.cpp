#include <fmt/format.h>

#include <optional>

#include "app/command.hpp"
#include "app/options.hpp"
#include "app/output.hpp"
#include "app/print.hpp"
#include "sentinel/core/stop.hpp"
#include "sentinel/models/model.hpp"
#include "sentinel/networks/device.hpp"
#include "sentinel/networks/load.hpp"
#include "sentinel/networks/network.hpp"
#include "sentinel/networks/normalisation.hpp"
#include "sentinel/networks/outputs.hpp"
#include "sentinel/networks/selection.hpp"
#include "sentinel/networks/training_state.hpp"
#include "sentinel/transform/train.hpp"

namespace sentinel {
namespace {

class Train : public Command {
 public:
  CLI::App* add_to(CLI::App& parent) override {
    CLI::App* app =
        parent.add_subcommand("train", "Train a network, or fine-tune one given by --checkpoint");
    add_selection(*app, selection_);
    add_compute(*app, compute_, 0);
    app->add_option("--epochs", options_.epochs, "Passes over the training images")
        ->capture_default_str();
    app->add_option("--batch-size", options_.batch_size, "Images per step")->capture_default_str();
    app->add_option("--lr", options_.learning_rate, "First learning rate, then a cosine to 0")
        ->capture_default_str();
    app->add_option("--momentum", options_.momentum, "Of SGD")->capture_default_str();
    app->add_option("--weight-decay", options_.weight_decay, "Of SGD")->capture_default_str();
    app->add_flag("!--no-augment", options_.augment, "No random crops and flips");
    add_best_on(*app, best_on_);
    add_whole(*app, "--seed", options_.seed, "Seed of weights, order and augmentation");
    app->add_flag("--fresh", options_.fresh,
                  "Throw away OUTPUT.training, from which a stopped training goes on");
    add_store(*app, store_);
    app->add_option("--output", output_, "Where the trained .pth goes");
    return app;
  }

  ExitCode run(const Context& context) override {
    const Comm& comm = context.comm;
    comm.agree([&] {
      check();
      options_.store = store_rules(store_);
      options_.device = choose_device(comm, resolved(compute_, comm));
    });
    comm.from_root([&] {
      check_outputs(
          {{output_, FileKind::kCheckpoint}, {state_beside(output_), FileKind::kTrainingState}},
          {selection_.checkpoint});
      return Bytes();
    });
    std::optional<NamedModel> start;
    if (!selection_.checkpoint.empty()) {
      start = load_model(comm, selection_);
      require_fault_free(comm, *start);
    }
    const std::string dataset = start ? start->graph.dataset : selection_.dataset;
    const Dataset images = load_dataset(comm, selection_, dataset, Split::kTrain, -1);
    const Dataset test = load_dataset(comm, selection_, dataset, Split::kTest, -1);
    options_.state_file = state_beside(output_);
    const StopWatch watch;
    comm.from_root([&] {
      fit_and_write(context, start, images, test);
      return Bytes();
    });
    return ExitCode::kDone;
  }

 private:
  void check() const {
    if (output_.empty()) throw UserError("--output trained.pth is missing");
    if (selection_.checkpoint.empty() && (selection_.model.empty() || selection_.dataset.empty()))
      throw UserError("train needs --model and --dataset, or --checkpoint to go on from");
    check_training(options_);
  }

  void fit_and_write(const Context& context, const std::optional<NamedModel>& start,
                     const Dataset& images, const Dataset& test) {
    Graph graph = start ? start->graph.clone()
                        : initial_model(selection_.model, images.info().classes, options_.seed);
    graph.dataset = images.info().name;
    const Normalisation usual = normalisation_of(graph, images);
    if (!start) set_normalisation(graph, chosen(selection_.normalisation, usual));
    const ModelCost unstored = model_cost(graph);
    say_rounded(graph, test);
    const bool ended = fit(graph, images, test, best_on_, options_, [&](const EpochReport& report) {
      print_epoch(report, options_.epochs, best_on_);
    });
    if (!ended) throw_stopped(options_.state_file);
    const std::vector<std::string> parents =
        start ? std::vector<std::string>{start->file_sha256} : std::vector<std::string>{};
    write_network(output_, serialize_model(graph, {parents, context.command, options_.seed, ""}));
    const Accuracy accuracy = evaluate(graph, test, options_.device);
    if (!graph.storage.empty())
      print_overhead({"before", unstored}, {"trained", model_cost(graph)});
    say("{}, images normalised by {}; written to {}\n", in_words(accuracy),
        in_words(normalisation_of(graph, test)), output_);
    warn_if_guessing(output_, graph, test, accuracy);
  }

  /// The effect of rounding alone on the network that is trained on.
  void say_rounded(const Graph& graph, const Dataset& test) const {
    if (options_.store.empty() || selection_.checkpoint.empty()) return;
    require_named(options_.store, graph);
    Graph rounded = graph.clone();
    remove_limits(rounded);
    store_values(rounded, options_.store);
    say("before training: {}; stored: {}\n", in_words(evaluate(graph, test, options_.device)),
        in_words(evaluate(rounded, test, options_.device)));
    flush_output();
  }

  ModelSelection selection_;
  Compute compute_;
  TrainOptions options_;
  std::vector<std::string> store_;
  BestOn best_on_ = BestOn::kHeldOut;
  std::string output_;
};

}  // namespace

std::unique_ptr<Command> make_train() {
  return std::make_unique<Train>();
}

}  // namespace sentinel
