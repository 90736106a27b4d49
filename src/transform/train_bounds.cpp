#include "sentinel/transform/train_bounds.hpp"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "sentinel/core/error.hpp"
#include "sentinel/core/hash.hpp"
#include "sentinel/core/rng.hpp"
#include "sentinel/core/stop.hpp"
#include "sentinel/graph/run.hpp"
#include "sentinel/store/file_lock.hpp"
#include "sentinel/transform/harden.hpp"
#include "sentinel/transform/train.hpp"
#include "transform/adam.hpp"
#include "transform/cosine.hpp"
#include "transform/train_state.hpp"

namespace sentinel {
namespace {

constexpr std::int64_t kBatchSize = 128;
constexpr double kFitactRate = 1e-3, kFitactDecay = 4e-11;
constexpr double kScalarRate = 1e-2, kNeuronRate = 1e-3, kFirstDecay = 4e-5;
constexpr int kDecays = 11;                   // each a tenth of the one before
constexpr std::int64_t kLostPerThousand = 2;  // images, at most

/// The bounds of a graph while they are trained on the device; leaves plain tensors where they were
/// before.
class LiveBounds {
 public:
  LiveBounds(Graph& graph, at::Device device) : graph_(graph) {
    graph_.to(device);
    for (NodeId id = 0; id < graph.size(); ++id) {
      auto* op = std::get_if<BoundedActivation>(&graph[id].op);
      if (!op) continue;
      op->bound = op->bound.detach().clone();
      sites_.push_back({graph[id].name, &op->bound});
    }
  }
  LiveBounds(const LiveBounds&) = delete;
  LiveBounds& operator=(const LiveBounds&) = delete;
  ~LiveBounds() {
    for (const auto& [name, bound] : sites_) *bound = bound->detach();
    graph_.to(at::kCPU);
  }
  const LiveTensors& sites() const { return sites_; }

 private:
  Graph& graph_;
  LiveTensors sites_;
};

/// The loss of logits [N, classes] of a batch.
using Loss = std::function<at::Tensor(const at::Tensor& logits, const Batch& batch)>;

/// What both methods share: epochs of steps, judged on the held-out images, kept in a file.
class BoundTrainer {
 public:
  BoundTrainer(Graph& graph, const HeldOut& images, const BoundTraining& training,
               const LiveTensors& sites, const TrainStateFile& file, const OnBoundEpoch& report)
      : graph_(graph),
        sites_(sites),
        images_(images),
        training_(training),
        file_(file),
        report_(report) {
    for (const auto& [name, tensor] : sites) live_.push_back({"bound/" + name, tensor});
  }
  /// Tensors of theirs that live as long as the training. Then what the file holds is taken.
  LiveTensors& live() { return live_; }
  void load() { progress_ = file_.load(live_); }

  std::int64_t done() const { return static_cast<std::int64_t>(progress_.reports.size()); }
  const EpochReport& stored(std::int64_t epoch) const {
    return progress_.reports.at(static_cast<std::size_t>(epoch));
  }
  std::int64_t steps() const { return (images_.fitted.size() + kBatchSize - 1) / kBatchSize; }

  /// The mean loss of the next epoch, `step(s)` after the gradients of its step s from 0; nothing
  /// where a stop was asked for.
  template <class Step>
  std::optional<double> epoch(const Loss& loss_of, Step step) {
    const auto number = static_cast<std::uint64_t>(done()) + 1;
    const auto order = Rng({training_.search.seed, 0, number, Purpose::kShuffle})
                           .permutation(images_.fitted.size());
    double sum = 0;
    for (std::int64_t s = 0; s < steps(); ++s) {
      if (stop_signal() != 0) return std::nullopt;
      const auto begin = order.begin() + s * kBatchSize;
      const auto size = std::min<std::int64_t>(kBatchSize, order.end() - begin);
      const Batch batch = on_device(images_.fitted.batch(
          std::vector<std::int64_t>(begin, begin + size), graph_.normalisation));
      const at::Tensor loss = loss_of(logits(graph_, batch.images), batch);
      sum += loss.item<double>() * static_cast<double>(size);
      if (!std::isfinite(sum)) throw UserError("the loss of the bounds is not finite");
      loss.backward();
      step(s);
      keep_positive();
    }
    return sum / static_cast<double>(images_.fitted.size());
  }

  std::int64_t held_out_correct(const Graph& graph) const {
    return evaluate(graph, images_.held_out, training_.device).correct;
  }
  double share(std::int64_t correct) const {
    return static_cast<double>(correct) / static_cast<double>(images_.held_out.size());
  }

  /// The end of an epoch.
  void end(double loss, double accuracy) {
    progress_.reports.push_back({done() + 1, loss, accuracy, false});
    file_.save(live_, progress_);
  }
  void tell(const std::string& site, const EpochReport& report, bool kept) const {
    if (report_) report_({site, report.epoch, report.loss, report.accuracy, kept, report.stored});
  }

 private:
  /// A bound below 0 acts as 0, and no file may hold it.
  void keep_positive() const {
    const at::NoGradGuard no_grad;
    for (const auto& [name, bound] : sites_) bound->clamp_min_(0);
  }
  Batch on_device(const Batch& batch) const {
    return {batch.images.to(training_.device), batch.labels.to(training_.device)};
  }

  Graph& graph_;
  const LiveTensors& sites_;
  const HeldOut& images_;
  const BoundTraining& training_;
  const TrainStateFile& file_;
  const OnBoundEpoch& report_;
  LiveTensors live_;
  TrainProgress progress_;
};

/// False where a stop was asked for.
bool fitact(Graph& graph, BoundTrainer& trainer, const LiveTensors& sites, std::int64_t epochs) {
  Adam adam(sites);
  adam.list(trainer.live());
  trainer.load();
  for (const auto& [name, bound] : sites) bound->requires_grad_(true);
  for (std::int64_t e = 0; e < trainer.done(); ++e) trainer.tell("", trainer.stored(e), true);
  const Loss loss_of = [&](const at::Tensor& output, const Batch& batch) {
    at::Tensor loss = at::cross_entropy_loss(output, batch.labels);
    for (const auto& [name, bound] : sites) loss = loss + kFitactDecay * bound->square().mean();
    return loss;
  };
  while (trainer.done() < epochs) {
    const std::int64_t before = trainer.done() * trainer.steps(), all = epochs * trainer.steps();
    const auto loss = trainer.epoch(
        loss_of, [&](std::int64_t step) { adam.step(cosine(kFitactRate, before + step, all), 0); });
    if (!loss) return false;
    trainer.end(*loss, trainer.share(trainer.held_out_correct(graph)));
    trainer.tell("", trainer.stored(trainer.done() - 1), true);
  }
  return true;
}

/// Cross entropy with a distribution.
at::Tensor soft_cross_entropy(const at::Tensor& output, const at::Tensor& wanted) {
  return -(at::softmax(wanted, 1) * at::log_softmax(output, 1)).sum(1).mean();
}

class Proact {
 public:
  Proact(Graph& graph, BoundTrainer& trainer, const LiveTensors& sites, std::int64_t epochs,
         std::int64_t held_out, at::Device device)
      : graph_(graph), trainer_(trainer), sites_(sites), epochs_(epochs), held_out_(held_out) {
    free_ = graph.clone();
    remove_limits(free_);
    free_.to(device);
    for (const LiveTensor& site : sites) adams_.emplace_back(LiveTensors{site});
    for (Adam& adam : adams_) adam.list(trainer.live());
    trainer.load();
    free_correct_ = trainer.held_out_correct(free_);
  }

  TrainedBounds run() {
    for (std::size_t s = sites_.size(); s-- > 0;)
      if (!train_site(s)) return {false};
    if (any_kept_) return {};
    return {true, NoneKept{trainer_.share(trainer_.held_out_correct(graph_)),
                           trainer_.share(free_correct_)}};
  }

 private:
  bool train_site(std::size_t s) {
    int decay = 0;
    for (std::int64_t epoch = 0; epoch < epochs_ && decay < kDecays; ++epoch, ++next_) {
      if (next_ == trainer_.done() && !train_epoch(s, decay)) return false;
      const EpochReport& report = trainer_.stored(next_);
      const bool kept = is_kept(std::llround(report.accuracy * static_cast<double>(held_out_)));
      trainer_.tell(sites_[s].name, report, kept);
      any_kept_ = any_kept_ || kept;
      if (!kept) ++decay;
    }
    return true;
  }

  bool train_epoch(std::size_t s, int decay) {
    at::Tensor& bound = *sites_[s].tensor;
    const at::Tensor before = bound.detach().clone();
    const double rate = bound.dim() == 0 ? kScalarRate : kNeuronRate;
    const double weight_decay = kFirstDecay * std::pow(10.0, -decay);
    bound.requires_grad_(true);
    const auto loss = trainer_.epoch(
        [&](const at::Tensor& output, const Batch& batch) { return loss_of(output, batch); },
        [&](std::int64_t) { adams_[s].step(rate, weight_decay); });
    bound.requires_grad_(false);
    if (!loss) return false;
    const std::int64_t correct = trainer_.held_out_correct(graph_);
    if (!is_kept(correct)) {
      bound.copy_(before);
      adams_[s].reset();
    }
    trainer_.end(*loss, trainer_.share(correct));
    return true;
  }

  at::Tensor loss_of(const at::Tensor& output, const Batch& batch) const {
    const at::NoGradGuard no_grad;
    const at::Tensor wanted = logits(free_, batch.images);
    const at::AutoGradMode with_gradients(true);
    return at::cross_entropy_loss(output, batch.labels) + soft_cross_entropy(output, wanted);
  }

  bool is_kept(std::int64_t correct) const {
    return (free_correct_ - correct) * 1000 <= kLostPerThousand * held_out_;
  }

  Graph& graph_;
  Graph free_;  // without bounds
  BoundTrainer& trainer_;
  const LiveTensors& sites_;
  std::int64_t epochs_, held_out_, free_correct_ = 0;
  std::vector<Adam> adams_;  // by site
  std::int64_t next_ = 0;    // epoch
  bool any_kept_ = false;
};

std::string fingerprint_of(const Graph& graph, const HeldOut& images,
                           const BoundTraining& training) {
  TrainOptions options;
  options.batch_size = kBatchSize;
  options.device = training.device;
  Sha256 hash;
  hash.update(bound_search_text(training.search) + " " +
              training_fingerprint(graph, {}, images.fitted, images.held_out, options));
  return hash.hex();
}

}  // namespace

TrainedBounds train_bounds(Graph& graph, const Dataset& images, const BoundTraining& training,
                           const OnBoundEpoch& report) {
  if (images.size() < 2)
    throw UserError("training of bounds needs at least two images, one of them held out");
  const at::AutoGradMode with_gradients(true);
  const FileLock lock(training.state_file);
  const HeldOut parts = hold_out(images);
  const TrainStateFile file(training.state_file, fingerprint_of(graph, parts, training));
  if (training.fresh) file.remove();
  const LiveBounds bounds(graph, training.device);
  if (bounds.sites().empty()) return {};
  BoundTrainer trainer(graph, parts, training, bounds.sites(), file, report);
  const std::int64_t epochs = bound_epochs(training.search);
  if (training.search.method == BoundMethod::kFitact)
    return {fitact(graph, trainer, bounds.sites(), epochs)};
  return Proact(graph, trainer, bounds.sites(), epochs, parts.held_out.size(), training.device)
      .run();
}

}  // namespace sentinel
