#include <fmt/format.h>

#include "app/command.hpp"
#include "app/options.hpp"
#include "sentinel/campaign/setup.hpp"
#include "sentinel/models/script.hpp"

namespace sentinel {
namespace {

class Export : public Command {
 public:
  CLI::App* add_to(CLI::App& parent) override {
    CLI::App* app = parent.add_subcommand(
        "export", "TorchScript file that plain PyTorch or LibTorch runs, protection included");
    add_selection(*app, selection_);
    add_seed_checkpoint(*app, selection_);
    app->add_option("--output", output_, "Where the TorchScript file goes");
    return app;
  }

  ExitCode run(const Context& context) override {
    const Comm& comm = context.comm;
    comm.from_root([&] {
      if (output_.empty()) throw UserError("--output model.ts is missing");
      require_writable(output_);
      require_distinct(output_, {selection_.checkpoint});
      return Bytes();
    });
    const NamedModel model = load_model(comm, selection_);
    comm.from_root([&] {
      export_script(model.graph, output_);
      print_use(model.graph);
      return Bytes();
    });
    return ExitCode::kDone;
  }

 private:
  void print_use(const Graph& graph) const {
    const auto& input = std::get<Input>(graph[0].op);
    fmt::print("written to {}; in PyTorch, images [N, {}, {}, {}] f32 normalised as {}:\n", output_,
               input.channels, input.size[0], input.size[1], graph.dataset);
    fmt::print("logits = torch.jit.load(\"{}\")(images)\n", output_);
  }

  ModelSelection selection_;
  std::string output_;
};

}  // namespace

std::unique_ptr<Command> make_export() {
  return std::make_unique<Export>();
}

}  // namespace sentinel
