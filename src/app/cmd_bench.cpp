#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "app/command.hpp"
#include "app/options.hpp"
#include "app/print.hpp"
#include "sentinel/campaign/campaign.hpp"

namespace sentinel {
namespace {

class Bench : public Command {
 public:
  CLI::App* add_to(CLI::App& parent) override {
    CLI::App* app = parent.add_subcommand(
        "bench", "A built-in mini-campaign: trials per second and a hash of all rows");
    add_compute(*app, compute_, 1);
    add_whole(*app, "--trials", trials_, "Trials, each on an unprotected and a hardened network");
    app->add_flag("--json", json_, "Print one JSON object");
    return app;
  }

  ExitCode run(const Context& context) override {
    context.comm.agree([&] {
      if (trials_ == 0) throw UserError("--trials 0: at least one trial is needed");
      compute_ = resolved(compute_, context.comm);
    });
    const BenchReport report = run_bench(context.comm, compute_, trials_);
    if (context.comm.rank() == 0) print(report, context.comm.size());
    return ExitCode::kDone;
  }

 private:
  void print(const BenchReport& report, int ranks) const {
    const double rate = static_cast<double>(report.trials) / report.seconds;
    if (json_)
      say_json({{"trials", report.trials},
                {"ranks", ranks},
                {"seconds", report.seconds},
                {"trials_per_second", rate},
                {"rows_sha256", report.rows_sha256}});
    else
      say("{} trials on 2 networks x 64 images, {} rank(s): {:.1f} trials/s\nrows {}\n",
          report.trials, ranks, rate, report.rows_sha256);
  }

  Compute compute_;
  std::uint64_t trials_ = 100;
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Command> make_bench() {
  return std::make_unique<Bench>();
}

}  // namespace sentinel
