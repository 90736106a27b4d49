#include <fmt/format.h>

#include "app/command.hpp"
#include "app/options.hpp"
#include "app/output.hpp"
#include "app/print.hpp"
#include "sentinel/campaign/ranking.hpp"
#include "sentinel/campaign/validation.hpp"
#include "sentinel/core/stop.hpp"
#include "sentinel/io/normalisation.hpp"
#include "sentinel/networks/device.hpp"
#include "sentinel/networks/load.hpp"
#include "sentinel/networks/network.hpp"
#include "sentinel/networks/normalisation.hpp"
#include "sentinel/networks/outputs.hpp"
#include "sentinel/networks/pruning.hpp"
#include "sentinel/networks/selection.hpp"
#include "sentinel/networks/training_state.hpp"

namespace sentinel {
namespace {

class Prune : public Command {
 public:
  CLI::App* add_to(CLI::App& parent) override {
    CLI::App* app = parent.add_subcommand("prune", "Removes unimportant channels, then fine-tunes");
    add_selection(*app, selection_);
    add_ranking(*app, ranking_);
    app->add_option("--ranking", ranking_.job.file,
                    "Ranking file of `rank` to use instead of --importance");
    add_pruning(*app, options_);
    add_group_score(*app, options_.group_score);
    add_whole(*app, "--seed", options_.job.finetune.seed,
              "Seed of fine-tuning: order and augmentation");
    app->add_flag("--fresh", options_.job.finetune.fresh,
                  "Throw away OUTPUT.training, from which a stopped fine-tuning goes on");
    add_store(*app, store_);
    add_compute(*app, compute_, 0);
    app->add_option("--output", output_, "Where the pruned .pth goes");
    return app;
  }

  ExitCode run(const Context& context) override {
    const Comm& comm = context.comm;
    RankingJob ranking;
    comm.agree([&] {
      if (output_.empty()) throw UserError("--output pruned.pth is missing");
      ranking = ranking_job(ranking_);
      keep_channel_trials(ranking, context, output_);
      job_ = pruning_job(options_);
      job_.finetune.store = store_rules(store_);
      validate(job_);
      device_ = choose_device(comm, resolved(compute_, comm));
    });
    comm.from_root([&] {
      std::vector<Output> outputs = channel_outputs(ranking);
      outputs.push_back({output_, FileKind::kCheckpoint});
      outputs.push_back({state_beside(output_), FileKind::kTrainingState});
      check_outputs(outputs, {selection_.checkpoint, ranking.file});
      return Bytes();
    });
    const NamedModel model = load_model(comm, selection_);
    const Dataset test = load_dataset(comm, selection_, model.graph.dataset, Split::kTest, -1);
    const ChannelScores scores = channel_scores(comm, model, selection_, ranking, device_);
    print_pruning(comm, model, scores, test);
    const StopWatch watch;
    const NamedModel pruned =
        make_pruned(comm, model, selection_, scores, job_, device_, context.command,
                    state_beside(output_), "", [&](const EpochReport& report) {
                      print_epoch(report, job_.finetune_epochs, job_.best_on);
                    });
    write(comm, pruned, test);
    return ExitCode::kDone;
  }

 private:
  /// What pruning alone does: known within seconds, before fine-tuning begins.
  void print_pruning(const Comm& comm, const NamedModel& model, const ChannelScores& scores,
                     const Dataset& test) const {
    comm.from_root([&] {
      const Accuracy before = evaluate(model.graph, test, device_);
      const ImageOf image = [&](std::int64_t number) {
        return test.batch(number, number + 1, model.graph.normalisation).images;
      };
      require_finite_logits(source_of(model), model.graph, before.logits, image, "test images");
      Graph pruned = prune(model.graph, scores, job_.plan);
      require_named(job_.finetune.store, pruned);
      store_values(pruned, job_.finetune.store);
      print_overhead({model.name, model_cost(model.graph)}, {"pruned", model_cost(pruned)});
      say("before pruning: {}, images normalised by {}\n", in_words(before),
          in_words(normalisation_of(model.graph, test)));
      warn_of_fault_free(source_of(model), model.graph, before, test);
      say("after pruning: {}\n", in_words(evaluate(pruned, test, device_)));
      flush_output();
      return Bytes();
    });
  }

  void write(const Comm& comm, const NamedModel& pruned, const Dataset& test) const {
    comm.from_root([&] {
      if (job_.finetune_epochs > 0) {
        write_network(output_, pruned.made);
        say("after fine-tuning: {}\n", in_words(evaluate(pruned.graph, test, device_)));
      } else {
        write_output({output_, FileKind::kCheckpoint}, pruned.made);
      }
      say("written to {}\n", output_);
      return Bytes();
    });
  }

  ModelSelection selection_;
  RankingOptions ranking_;
  PruningOptions options_;
  Compute compute_;
  std::vector<std::string> store_;
  std::string output_;
  PruningJob job_;
  at::Device device_ = at::kCPU;
};

}  // namespace

std::unique_ptr<Command> make_prune() {
  return std::make_unique<Prune>();
}

}  // namespace sentinel
