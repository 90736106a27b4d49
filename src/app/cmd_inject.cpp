#include "app/command.hpp"
#include "app/options.hpp"
#include "app/result_tables.hpp"
#include "sentinel/campaign/campaign.hpp"
#include "sentinel/core/stop.hpp"

namespace sentinel {
namespace {

/// inject: faults into one network. campaign: rank, prune, harden, and the same faults into every
/// network.
class Injection : public Command {
 public:
  explicit Injection(bool protect) { job_.protect = protect; }

  CLI::App* add_to(CLI::App& parent) override {
    CLI::App* app =
        job_.protect
            ? parent.add_subcommand(
                  "campaign", "Rank, prune, harden, and inject the same faults into every network")
            : parent.add_subcommand("inject", "Inject faults into one network, hardened or not");
    add_selection(*app, job_.selection);
    if (job_.protect) {
      add_pruning(*app, pruning_);
      add_whole(*app, "--finetune-seed", pruning_.job.finetune.seed,
                "Seed of fine-tuning: order and augmentation");
      add_protection(*app, protection_);
      app->add_option("--hardened-output", job_.hardened_output,
                      "Where the hardened network (.pth) is kept, beside the result otherwise");
      app->add_option("--also", job_.also,
                      "Checkpoints made from the same network, injected with the same faults");
    } else {
      add_seed_checkpoint(*app, job_.selection);
    }
    add_injection(*app, job_, injection_);
    add_compute(*app, job_.compute, 1);
    app->add_flag("--json", json_, "Print the summary as one JSON object");
    return app;
  }

  ExitCode run(const Context& context) override {
    install_stop_handlers();
    job_.command = context.command;
    job_.resolved = context.resolved;
    context.comm.agree([&] {
      finish_injection(injection_, job_);
      job_.protection = protection_job(protection_);
      pruning_.group_score = protection_.group_score;
      PruningJob pruning = pruning_job(pruning_);
      pruning.finetune.fresh = job_.fresh;
      if (pruning.plan.ratio != 0 || !pruning.plan.ratios.empty()) job_.pruning = pruning;
      keep_channel_trials(job_.protection.ranking, context, job_.output);
      job_.compute = resolved(job_.compute, context.comm);
    });
    const ExitCode code = run_campaign(context.comm, job_);
    context.comm.from_root([&] {
      print_result(job_.output, json_);
      return Bytes();
    });
    return code;
  }

 private:
  Job job_;
  ProtectionOptions protection_;
  PruningOptions pruning_;
  InjectionOptions injection_;
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Command> make_inject() {
  return std::make_unique<Injection>(false);
}
std::unique_ptr<Command> make_campaign() {
  return std::make_unique<Injection>(true);
}

}  // namespace sentinel
