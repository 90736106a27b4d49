#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <numeric>
#include <optional>

#include "app/command.hpp"
#include "app/options.hpp"
#include "sentinel/campaign/setup.hpp"
#include "sentinel/core/file.hpp"
#include "sentinel/core/stop.hpp"
#include "sentinel/models/model.hpp"
#include "sentinel/protect/train.hpp"
#include "sentinel/protect/transform.hpp"

namespace sentinel {
namespace {

/// The last n images.
Dataset last(const Dataset& images, std::int64_t n) {
  const auto [c, h, w] = images.info().shape;
  const std::ptrdiff_t skipped = images.size() - n;
  return Dataset(images.info(),
                 {images.pixels().begin() + skipped * c * h * w, images.pixels().end()},
                 {images.labels().begin() + skipped, images.labels().end()});
}

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
    app->add_option("--select", select_,
                    "The best epoch on a held-out tenth (held-out) or the test images (test)")
        ->capture_default_str();
    add_whole(*app, "--seed", options_.seed, "Seed of weights, order and augmentation");
    app->add_option("--output", output_, "Where the trained .pth goes");
    return app;
  }

  ExitCode run(const Context& context) override {
    const Comm& comm = context.comm;
    install_stop_handlers();
    comm.agree([&] {
      check();
      options_.device = choose_device(comm, resolved(compute_, comm));
    });
    comm.from_root([&] {
      require_writable(output_);
      require_distinct(output_, {selection_.checkpoint});
      return Bytes();
    });
    std::optional<NamedModel> start;
    if (!selection_.checkpoint.empty()) start = load_model(comm, selection_);
    const std::string dataset = start ? start->graph.dataset : selection_.dataset;
    const Dataset images = load_dataset(comm, selection_, dataset, Split::kTrain, -1);
    const Dataset test = load_dataset(comm, selection_, dataset, Split::kTest, -1);
    return code_of_root(comm, [&] { return fit(context, start, images, test); });
  }

 private:
  void check() const {
    if (output_.empty()) throw UserError("--output trained.pth is missing");
    if (selection_.checkpoint.empty() && (selection_.model.empty() || selection_.dataset.empty()))
      throw UserError("train needs --model and --dataset, or --checkpoint to go on from");
    if (select_ != "held-out" && select_ != "test")
      throw UserError("--select " + select_ + " is unknown; choose held-out or test");
    if (options_.epochs < 1 || options_.batch_size < 2)
      throw UserError("--epochs must be at least 1, --batch-size 2");
    if (!(options_.learning_rate > 0)) throw UserError("--lr must be above 0");
  }

  /// The code of a stop where one came: then nothing is written.
  ExitCode fit(const Context& context, const std::optional<NamedModel>& start,
               const Dataset& images, const Dataset& test) {
    Graph graph = start ? start->graph.clone()
                        : initial_model(selection_.model, images.info().classes, options_.seed);
    graph.dataset = images.info().name;
    const std::int64_t held = select_ == "test" ? 0 : images.size() / 10;
    const Dataset fitted = images.first(images.size() - held);
    const Dataset held_out = held > 0 ? last(images, held) : test;
    // Old bounds would cut what the network learns, and not fit it afterwards.
    remove_limits(graph);
    train(graph, fitted, held_out, options_, [&](const EpochReport& r) {
      fmt::print("epoch {}/{}: loss {:.4f}, {:.2f} % of the {} images right\n", r.epoch,
                 options_.epochs, r.loss, 100 * r.accuracy, select_);
      std::fflush(stdout);
    });
    if (stop_signal() != 0) {
      spdlog::warn("stopped by signal {}: {} is not written", stop_signal(), output_);
      return stop_code();
    }
    recalibrate(graph, fitted, Comm::local(), options_.device);
    const std::vector<std::string> parents =
        start ? std::vector<std::string>{start->file_sha256} : std::vector<std::string>{};
    write_file_atomic(output_,
                      serialize_model(graph, {parents, context.command, options_.seed, ""}));
    const Accuracy accuracy = evaluate(graph, test, options_.device);
    fmt::print("{} of {} test images right ({:.2f} %); written to {}\n", accuracy.correct,
               accuracy.images,
               100.0 * static_cast<double>(accuracy.correct) / static_cast<double>(accuracy.images),
               output_);
    return ExitCode::kDone;
  }

  ModelSelection selection_;
  Compute compute_;
  TrainOptions options_;
  std::string select_ = "held-out", output_;
};

}  // namespace

std::unique_ptr<Command> make_train() {
  return std::make_unique<Train>();
}

}  // namespace sentinel
