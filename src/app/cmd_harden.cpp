#include <fmt/format.h>

#include "app/command.hpp"
#include "app/options.hpp"
#include "app/output.hpp"
#include "app/print.hpp"
#include "sentinel/campaign/protecting.hpp"
#include "sentinel/campaign/ranking.hpp"
#include "sentinel/campaign/validation.hpp"
#include "sentinel/networks/device.hpp"
#include "sentinel/networks/load.hpp"
#include "sentinel/networks/network.hpp"
#include "sentinel/networks/normalisation.hpp"
#include "sentinel/networks/outputs.hpp"
#include "sentinel/networks/selection.hpp"
#include "sentinel/networks/training_state.hpp"

namespace sentinel {
namespace {

constexpr std::int64_t kCompared = 1000;  // images, before and after

/// To rank or to calibrate.
bool looks_at_images(const ProtectionJob& job) {
  const DuplicationPlan& duplication = job.hardening.duplication;
  return job.hardening.restricted ||
         (duplicates(duplication) &&
          (duplication.correction == Correction::kRange || ranks_by_images(job.ranking)));
}

bool keeps_a_search(const HardeningPlan& plan) {
  return plan.search.method == BoundMethod::kFtclip || trains_bounds(plan.search);
}

/// Whether predictions may change without any fault, also on the calibration images.
bool may_cost_accuracy(const HardeningPlan& plan) {
  const bool cuts = plan.search.method != BoundMethod::kMax || plan.clipping == Clipping::kSmooth;
  return !plan.store.empty() || (plan.restricted && cuts);
}

/// Which channels have copies, as --channels takes them.
void print_copies(const Graph& hardened) {
  std::vector<std::vector<std::string>> rows = {{"duplicated", "channels", "of"}};
  for (const Node& node : hardened.nodes()) {
    const auto* twice = std::get_if<DuplicatedConv>(&node.op);
    if (!twice) continue;
    Selection::Channels channels{node.name, {}};
    for (const std::int64_t channel : twice->duplicated)
      channels.channels.push_back(
          {static_cast<std::uint64_t>(channel), static_cast<std::uint64_t>(channel) + 1});
    rows.push_back({channels_name(channels), std::to_string(twice->duplicated.size()),
                    std::to_string(twice->out_channels())});
  }
  print_table(rows);
}

class Harden : public Command {
 public:
  CLI::App* add_to(CLI::App& parent) override {
    CLI::App* app =
        parent.add_subcommand("harden", "Duplicates important channels and bounds activations");
    add_selection(*app, selection_);
    add_protection(*app, options_);
    add_compute(*app, compute_, 0);
    app->add_flag(
        "--fresh", fresh_,
        "Throw away what an earlier call left of --bound-search ftclip, fitact or proact");
    app->add_option("--output", output_, "Where the hardened .pth goes");
    return app;
  }

  ExitCode run(const Context& context) override {
    const Comm& comm = context.comm;
    ProtectionJob protection;
    bool by_images = false;
    at::Device device = at::kCPU;
    comm.agree([&] {
      if (output_.empty()) throw UserError("--output hardened.pth is missing");
      protection = protection_job(options_);
      keep_trials(protection, context, output_);
      protection.fresh = fresh_;
      validate(protection);
      if (!protects(protection.hardening))
        throw UserError(
            "--hardening-ratio 0, --clipping none and --weight-bounds off protect nothing; choose "
            "a protection");
      if (fresh_ && !keeps_a_search(protection.hardening))
        throw UserError("--fresh starts a search of bounds over, and --bound-search " +
                        bound_search_name(protection.hardening.search) +
                        " keeps nothing; leave --fresh out, or give ftclip, fitact or proact");
      by_images = looks_at_images(protection);
      device = choose_device(comm, resolved(compute_, comm));
    });
    comm.from_root([&] {
      std::vector<Output> outputs = channel_outputs(protection.ranking);
      outputs.push_back({output_, FileKind::kCheckpoint});
      if (trains_bounds(protection.hardening.search))
        outputs.push_back({state_beside(output_), FileKind::kTrainingState});
      check_outputs(outputs, {selection_.checkpoint, protection.ranking.file});
      return Bytes();
    });
    note_method(comm, protection);
    const NamedModel model = load_model(comm, selection_);
    if (by_images) look_at_training_images(comm, model, selection_, device);
    ChannelScores scores;
    if (duplicates(protection.hardening.duplication))
      scores = channel_scores(comm, model, selection_, protection.ranking, device);
    const NamedModel hardened =
        make_protected(comm, model, selection_, scores, protection, device, output_, "");
    comm.from_root([&] {
      if (trains_bounds(protection.hardening.search)) {
        write_network(output_, hardened.made);
      } else {
        write_output({output_, FileKind::kCheckpoint}, hardened.made);
      }
      if (protection.hardening.duplication.overhead) print_copies(hardened.graph);
      const bool alike = model.name == hardened.name;
      print_overhead({alike ? "as given" : model.name, model_cost(model.graph)},
                     {alike ? "as written" : hardened.name, model_cost(hardened.graph)});
      say("written to {}\n", output_);
      return Bytes();
    });
    if (may_cost_accuracy(protection.hardening)) tell_accuracies(comm, model, hardened, device);
    return ExitCode::kDone;
  }

 private:
  /// Rounding and low bounds cost accuracy without any fault. Where there are no images, that is
  /// said: the network is written already. Collective.
  void tell_accuracies(const Comm& comm, const NamedModel& model, const NamedModel& hardened,
                       at::Device device) const {
    std::string told;
    try {
      const Dataset images = training_images(comm, selection_, model.graph.dataset, -1, kCompared);
      comm.from_root([&] {
        const auto right = [&](const NamedModel& network) {
          const Accuracy found = evaluate(network.graph, images, device);
          return percent(static_cast<double>(found.correct) / static_cast<double>(found.images));
        };
        told = fmt::format(
            "without faults, top-1 of the first {} training images of {}: {} % as given, {} % as "
            "written",
            images.size(), images.info().name, right(model), right(hardened));
        return Bytes();
      });
    } catch (const SharedError& error) {
      if (error.code() != ExitCode::kUsage && error.code() != ExitCode::kData) throw;
      told = std::string("the accuracy as written was not measured: ") + error.what();
    }
    comm.from_root([&] {
      say("{}\n", told);
      return Bytes();
    });
  }

  ModelSelection selection_;
  ProtectionOptions options_;
  Compute compute_;
  std::string output_;
  bool fresh_ = false;
};

}  // namespace

std::unique_ptr<Command> make_harden() {
  return std::make_unique<Harden>();
}

}  // namespace sentinel
