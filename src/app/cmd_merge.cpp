#include <fmt/format.h>

#include "app/command.hpp"
#include "app/print.hpp"
#include "sentinel/networks/outputs.hpp"
#include "sentinel/results/merge.hpp"

namespace sentinel {
namespace {

class Merge : public Command {
 public:
  CLI::App* add_to(CLI::App& parent) override {
    CLI::App* app = parent.add_subcommand(
        "merge", "Join results of one campaign over disjoint ranges of its trials");
    app->add_option("results", inputs_, "Result files (HDF5), complete or not");
    app->add_option("-o,--output", output_,
                    "Result file to write; trials of the same campaign that it holds are kept");
    return app;
  }

  ExitCode run(const Context& context) override {
    context.comm.from_root([&] {
      if (inputs_.empty()) throw UserError("which results? sentinelnn merge a.h5 b.h5 -o all.h5");
      if (output_.empty())
        throw UserError("--output all.h5 is missing: where shall the joined result go?");
      require_replaceable({output_, FileKind::kResult});
      print(merge_results(inputs_, output_));
      return Bytes();
    });
    return ExitCode::kDone;
  }

 private:
  void print(const MergeReport& report) const {
    say("{}: {} trials from {} results ({})\n", output_, report.trials, inputs_.size(),
        report.complete ? "complete" : fmt::format("not complete: {} are planned", report.planned));
    if (report.duplicates > 0)
      say("{} rows were there more than once, all equal\n", report.duplicates);
  }

  std::vector<std::string> inputs_;
  std::string output_;
};

}  // namespace

std::unique_ptr<Command> make_merge() {
  return std::make_unique<Merge>();
}

}  // namespace sentinel
