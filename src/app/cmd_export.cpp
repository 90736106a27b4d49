#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "app/command.hpp"
#include "app/options.hpp"
#include "app/print.hpp"
#include "sentinel/fault/fault_free.hpp"
#include "sentinel/io/normalisation.hpp"
#include "sentinel/models/model.hpp"
#include "sentinel/models/script.hpp"
#include "sentinel/networks/load.hpp"
#include "sentinel/networks/network.hpp"
#include "sentinel/networks/normalisation.hpp"
#include "sentinel/networks/outputs.hpp"
#include "sentinel/networks/selection.hpp"
#include "sentinel/transform/harden.hpp"

namespace sentinel {
namespace {

class Export : public Command {
 public:
  CLI::App* add_to(CLI::App& parent) override {
    CLI::App* app = parent.add_subcommand(
        "export", "TorchScript file that plain PyTorch or LibTorch runs, protection included");
    add_selection(*app, selection_);
    add_seed_checkpoint(*app, selection_);
    app->add_flag("!--no-weight-bounds", weight_bounds_,
                  "Leave weight bounds out, as for training; all other protection stays");
    app->add_option("--output", output_, "Where the TorchScript file goes");
    return app;
  }

  ExitCode run(const Context& context) override {
    const Comm& comm = context.comm;
    comm.from_root([&] {
      if (output_.empty()) throw UserError("--output model.ts is missing");
      check_outputs({{output_, FileKind::kScript}}, {selection_.checkpoint});
      return Bytes();
    });
    NamedModel model = load_model(comm, selection_);
    comm.from_root([&] {
      const std::vector<BrokenTensor> broken = broken_tensors(model.graph);
      if (!broken.empty()) spdlog::warn("{}: {}", source_of(model), in_words(broken));
      const bool bounded = has_weight_bounds(model.graph);
      if (!weight_bounds_) remove_weight_bounds(model.graph);
      require_replaceable({output_, FileKind::kScript});
      export_script(model.graph, output_);
      print_use(model.graph);
      if (bounded) print_bounds();
      return Bytes();
    });
    return ExitCode::kDone;
  }

 private:
  void print_use(const Graph& graph) const {
    const auto& input = std::get<Input>(graph[0].op);
    const auto normalisation = sentinel::normalisation_of(graph);
    say("written to {}; in PyTorch, images [N, {}, {}, {}] of float32, {}:\n", output_,
        input.channels, input.size[0], input.size[1],
        normalisation ? "(pixel / 255 - mean) / std by " + in_words(*normalisation)
                      : "normalised as in training");
    say("logits = torch.jit.load(\"{}\")(images)\n", output_);
  }

  void print_bounds() const {
    if (!weight_bounds_) {
      say("Its weight bounds are left out: no weight is checked.\n");
      return;
    }
    say("Its weight bounds are frozen: a weight outside them counts as 0, and training moves "
        "weights out of them.\nTo train it elsewhere, export it with --no-weight-bounds.\n");
  }

  ModelSelection selection_;
  std::string output_;
  bool weight_bounds_ = true;
};

}  // namespace

std::unique_ptr<Command> make_export() {
  return std::make_unique<Export>();
}

}  // namespace sentinel
