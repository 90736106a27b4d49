#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "app/command.hpp"
#include "app/options.hpp"
#include "app/output.hpp"
#include "app/print.hpp"
#include "sentinel/io/normalisation.hpp"
#include "sentinel/networks/device.hpp"
#include "sentinel/networks/load.hpp"
#include "sentinel/networks/network.hpp"
#include "sentinel/networks/normalisation.hpp"
#include "sentinel/networks/selection.hpp"
#include "sentinel/transform/train.hpp"

namespace sentinel {
namespace {

class Evaluate : public Command {
 public:
  CLI::App* add_to(CLI::App& parent) override {
    CLI::App* app =
        parent.add_subcommand("evaluate", "Fault-free accuracy, parameters and MACs of a network");
    add_selection(*app, selection_);
    add_seed_checkpoint(*app, selection_);
    add_images(*app, images_, "test images");
    add_compute(*app, compute_, 0);
    app->add_option("--batch-size", batch_size_, "Images per batch")->capture_default_str();
    app->add_flag("--json", json_, "Print one JSON object");
    return app;
  }

  ExitCode run(const Context& context) override {
    const Comm& comm = context.comm;
    at::Device device = at::kCPU;
    comm.agree([&] {
      if (images_ == 0 || batch_size_ < 1)
        throw UserError("--images and --batch-size must be at least 1");
      device = choose_device(comm, resolved(compute_, comm));
    });
    const NamedModel model = load_model(comm, selection_);
    const Dataset images =
        load_dataset(comm, selection_, model.graph.dataset, Split::kTest, images_);
    comm.from_root([&] {
      const Accuracy accuracy = evaluate(model.graph, images, device, batch_size_);
      warn_of_fault_free(source_of(model), model.graph, accuracy, images);
      print(model, normalisation_of(model.graph, images), accuracy);
      return Bytes();
    });
    return ExitCode::kDone;
  }

 private:
  void print(const NamedModel& model, const Normalisation& normalisation,
             const Accuracy& accuracy) const {
    const ModelCost cost = model_cost(model.graph);
    const auto share = [&](std::int64_t n) {
      return static_cast<double>(n) / static_cast<double>(accuracy.images);
    };
    if (json_) {
      const nlohmann::json report = {{"images", accuracy.images},
                                     {"correct", accuracy.correct},
                                     {"not_finite", accuracy.logits.not_finite()},
                                     {"top1", share(accuracy.correct)},
                                     {"top5", share(accuracy.top5)},
                                     {"parameters", cost.parameters},
                                     {"macs", cost.macs},
                                     {"memory_bytes", cost.memory_bytes},
                                     {"mean", normalisation.mean},
                                     {"std", normalisation.std}};
      say_json(report);
      return;
    }
    say("{} on {}: {} of {} test images right\n", title_of(model), model.graph.dataset,
        accuracy.correct, accuracy.images);
    say("images normalised by {}\n", in_words(normalisation));
    std::vector<std::vector<std::string>> rows = {
        {"top-1 accuracy", percent(share(accuracy.correct)) + " %"},
        {"top-5 accuracy", percent(share(accuracy.top5)) + " %"},
        {"parameters", with_spaces(cost.parameters)},
        {"MACs per image", with_spaces(cost.macs)},
        {"memory", with_spaces(cost.memory_bytes) + " bytes"}};
    if (accuracy.logits.not_finite() > 0)
      rows.push_back(
          {"NaN or Inf logits",
           fmt::format("{} of {} images", accuracy.logits.not_finite(), accuracy.images)});
    print_table(rows);
  }

  ModelSelection selection_;
  Compute compute_;
  std::int64_t images_ = -1, batch_size_ = 32;
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Command> make_evaluate() {
  return std::make_unique<Evaluate>();
}

}  // namespace sentinel
