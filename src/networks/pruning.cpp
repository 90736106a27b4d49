#include "sentinel/networks/pruning.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <optional>

#include "networks/everywhere.hpp"
#include "networks/reuse.hpp"
#include "sentinel/core/hash.hpp"
#include "sentinel/core/log.hpp"
#include "sentinel/networks/load.hpp"
#include "sentinel/networks/training_state.hpp"
#include "sentinel/transform/train.hpp"

namespace sentinel {
namespace {

/// The images of fine-tuning; nothing where there is none.
struct FineTuningImages {
  std::optional<Dataset> train, test;  // test: only to select by
};

FineTuningImages load_images(const Comm& comm, const NamedModel& model,
                             const ModelSelection& selection, const PruningJob& job) {
  FineTuningImages images;
  if (job.finetune_epochs == 0) return images;
  const std::string& dataset = model.graph.dataset;
  images.train = load_dataset(comm, selection, dataset, Split::kTrain, -1);
  if (job.best_on == BestOn::kTest)
    images.test = load_dataset(comm, selection, dataset, Split::kTest, -1);
  return images;
}

std::string plan_in_words(const PruningPlan& plan) {
  std::string text = fmt::format("pruned by ratio {:.17g}", plan.ratio);
  for (const auto& [layer, ratio] : plan.ratios) text += fmt::format(", {}={:.17g}", layer, ratio);
  return text + (plan.group_score == GroupScore::kMean ? ", mean" : ", first") + " group score";
}

/// Everything that decides the bits of a pruned model.
std::string recipe_of(const NamedModel& model, const ChannelScores& scores, const PruningJob& job,
                      const FineTuningImages& images) {
  std::string text = plan_in_words(job.plan);
  if (images.train) {
    const TrainOptions& o = job.finetune;
    text += fmt::format(
        ", fine-tuned {} epochs in batches of {} with lr {:.17g}, momentum {:.17g}, weight decay "
        "{:.17g}, {} augmentation, seed {} on {} images {:.12}, the best by {}",
        job.finetune_epochs, o.batch_size, o.learning_rate, o.momentum, o.weight_decay,
        o.augment ? "with" : "without", o.seed, images.train->size(), images.train->hash(),
        best_on_name(job.best_on));
    if (images.test) text += fmt::format(" images {:.12}", images.test->hash());
  }
  for (const StoreRule& rule : job.finetune.store) text += ", stored as " + rule.text;
  return text + fmt::format(", scores {:.12}, of network {:.12}", hash_of(scores), model.sha256);
}

/// Logs epochs as they end, and how long the rest takes by those of this call.
OnEpoch epoch_log(const PruningJob& job) {
  using Clock = std::chrono::steady_clock;
  return [&job, begin = Clock::now(), timed = 0](const EpochReport& report) mutable {
    const std::int64_t rest = job.finetune_epochs - report.epoch;
    std::string left;
    if (!report.stored && rest > 0) {
      const std::chrono::duration<double> each = (Clock::now() - begin) / ++timed;
      left = " · " + duration_text(each.count() * static_cast<double>(rest)) + " left";
    }
    spdlog::info("fine-tuning, epoch {}/{}: loss {:.4f}, {:.2f} % of the {} images right{}",
                 report.epoch, job.finetune_epochs, report.loss, 100 * report.accuracy,
                 best_on_name(job.best_on), left);
  };
}

void fine_tune(Graph& graph, const FineTuningImages& images, const PruningJob& job,
               at::Device device, const std::string& state_file, const OnEpoch& report) {
  TrainOptions options = job.finetune;
  options.epochs = job.finetune_epochs;
  options.device = device;
  options.state_file = state_file;
  const Dataset& test = images.test ? *images.test : *images.train;
  if (!fit(graph, *images.train, test, job.best_on, options, report)) throw_stopped(state_file);
}

}  // namespace

NamedModel make_pruned(const Comm& comm, const NamedModel& model, const ModelSelection& selection,
                       const ChannelScores& scores, const PruningJob& job, at::Device device,
                       const std::string& command, const std::string& state_file,
                       const std::string& reuse, const OnEpoch& report) {
  const FineTuningImages images = load_images(comm, model, selection, job);
  const std::string recipe = recipe_of(model, scores, job, images);
  Bytes file = comm.from_root([&] {
    if (Bytes made = made_by(recipe, reuse); !made.empty()) return made;
    Graph graph = prune(model.graph, scores, job.plan);
    if (!images.train) store_values(graph, job.finetune.store);
    if (images.train)
      fine_tune(graph, images, job, device, state_file, report ? report : epoch_log(job));
    return serialize_model(
        graph, {{model.file_sha256}, command, job.finetune.seed, recipe, network_sha256(graph)});
  });
  NamedModel pruned = parse_everywhere(comm, file, "pruned network", {});
  pruned.name = name_of(pruned.graph, "");
  pruned.file_sha256 = sha256_hex(file.data(), file.size());
  pruned.recipe = recipe;
  if (comm.rank() == 0) pruned.made = std::move(file);
  return pruned;
}

}  // namespace sentinel
