#include "app/command.hpp"
#include "app/result_tables.hpp"
#include "sentinel/campaign/fault_lists.hpp"
#include "sentinel/networks/outputs.hpp"
#include "sentinel/results/listed_faults.hpp"

namespace sentinel {
namespace {

class Summarize : public Command {
 public:
  CLI::App* add_to(CLI::App& parent) override {
    CLI::App* app = parent.add_subcommand("summarize", "Tables of a result file");
    app->add_option("result", path_, "Result file (HDF5)");
    app->add_flag("--json", json_, "Print one JSON object");
    app->add_option("--faults", faults_,
                    "Write the faults of the trials as a list for `inject --faults` (CSV, "
                    "docs/fault_lists.md), instead of tables");
    app->add_option("--point", choice_.point, "The list is of this point");
    app->add_option("--network", choice_.network,
                    "The list is of this network, by its name (otherwise of the first)");
    return app;
  }

  ExitCode run(const Context& context) override {
    context.comm.from_root([&] {
      if (path_.empty()) throw UserError("which result? sentinelnn summarize result.h5");
      if (!faults_.empty()) return write_list();
      if (choice_.point || !choice_.network.empty())
        throw UserError("--point and --network choose what --faults OUT.csv writes; give it too");
      print_result(path_, json_);
      return Bytes();
    });
    return ExitCode::kDone;
  }

 private:
  Bytes write_list() const {
    check_outputs({{faults_, FileKind::kFaultList}}, {path_});
    write_fault_list(faults_, stored_fault_list(path_, choice_));
    return Bytes();
  }

  std::string path_, faults_;
  ListChoice choice_;
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Command> make_summarize() {
  return std::make_unique<Summarize>();
}

}  // namespace sentinel
