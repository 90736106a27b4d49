#include "app/command.hpp"
#include "app/result_tables.hpp"

namespace sentinel {
namespace {

class Summarize : public Command {
 public:
  CLI::App* add_to(CLI::App& parent) override {
    CLI::App* app = parent.add_subcommand("summarize", "Tables of a result file");
    app->add_option("result", path_, "Result file (HDF5)");
    app->add_flag("--json", json_, "Print one JSON object");
    return app;
  }

  ExitCode run(const Context& context) override {
    context.comm.from_root([&] {
      if (path_.empty()) throw UserError("which result? sentinelnn summarize result.h5");
      print_result(path_, json_);
      return Bytes();
    });
    return ExitCode::kDone;
  }

 private:
  std::string path_;
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Command> make_summarize() {
  return std::make_unique<Summarize>();
}

}  // namespace sentinel
