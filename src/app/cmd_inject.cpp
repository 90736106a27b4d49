#include "app/command.hpp"
#include "app/options.hpp"
#include "app/resolved_options.hpp"
#include "app/result_tables.hpp"
#include "app/stored_job.hpp"
#include "sentinel/campaign/campaign.hpp"

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
      add_also(*app, job_);
      app->add_flag("--all-combinations", job_.all_combinations,
                    "With pruning and hardening: also the network that is hardened only");
    } else {
      add_seed_checkpoint(*app, job_.selection);
    }
    add_injection(*app, job_, injection_);
    add_compute(*app, job_.compute, 1);
    app->add_flag("--json", json_, "Print the summary as one JSON object");
    return app;
  }

  ExitCode run(const Context& context) override {
    context.comm.agree([&] { prepare(context); });
    const ExitCode code = run_campaign(context.comm, job_);
    context.comm.from_root([&] {
      print_result(job_.output, json_);
      return Bytes();
    });
    return code;
  }

  /// The job that the options describe. UserError where they contradict each other.
  const Job& prepare(const Context& context) {
    job_.command = context.command;
    job_.resolved = context.resolved;
    finish_injection(injection_, job_);
    job_.protection = protection_job(protection_);
    pruning_.group_score = protection_.group_score;
    PruningJob pruning = pruning_job(pruning_);
    pruning.finetune.fresh = job_.fresh;
    if (pruning.plan.ratio != 0 || !pruning.plan.ratios.empty()) job_.pruning = pruning;
    keep_trials(job_.protection, context, job_.output);
    job_.protection.fresh = job_.fresh;
    job_.compute = resolved(job_.compute, context.comm);
    return job_;
  }

 private:
  Job job_;
  ProtectionOptions protection_;
  PruningOptions pruning_;
  InjectionOptions injection_;
  bool json_ = false;
};

Job read_job(const Comm& comm, const std::string& source, const std::string& table, bool protect,
             std::vector<std::string> flags) {
  CLI::App root;
  Injection injection(protect);
  CLI::App* app = injection.add_to(root);
  flags.insert(flags.begin(), app->get_name());
  root.parse(std::vector<std::string>(flags.rbegin(), flags.rend()));  // as CLI11 wants them
  apply_job_text(source, table, root, *app);
  return injection.prepare({comm, "", table});
}

}  // namespace

Job stored_job(const Comm& comm, const std::string& source, const std::string& table,
               const std::vector<std::string>& flags) {
  const bool protect = table.rfind("[campaign]", 0) == 0;
  if (table.empty()) throw DataError(source, "holds no job, so that it cannot be replayed");
  if (!protect && table.rfind("[inject]", 0) != 0)
    throw UserError(source + " was made by " + table.substr(0, table.find('\n')) +
                    "; only results of inject and campaign can be replayed");
  try {
    return read_job(comm, source, table, protect, flags);
  } catch (const UserError& error) {
    throw DataError(source, std::string("the job in it cannot be read: ") + error.what());
  } catch (const CLI::Error& error) {
    throw UserError(error.what());
  }
}

Job typed_campaign(const Context& context, std::vector<std::string> words) {
  CLI::App root;
  Injection campaign(true);
  CLI::App* app = campaign.add_to(root);
  words.insert(words.begin(), app->get_name());
  try {
    root.parse(std::vector<std::string>(words.rbegin(), words.rend()));  // as CLI11 wants them
  } catch (const CLI::Error& error) {
    throw UserError(error.what());
  }
  return campaign.prepare({context.comm, context.command, resolved_options(*app)});
}

std::unique_ptr<Command> make_inject() {
  return std::make_unique<Injection>(false);
}
std::unique_ptr<Command> make_campaign() {
  return std::make_unique<Injection>(true);
}

}  // namespace sentinel
