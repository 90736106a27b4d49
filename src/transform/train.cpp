#include "sentinel/transform/train.hpp"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sentinel/core/error.hpp"
#include "sentinel/core/rng.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/core/stop.hpp"
#include "sentinel/graph/run.hpp"
#include "sentinel/graph/visit.hpp"
#include "sentinel/store/file_lock.hpp"
#include "transform/augment.hpp"
#include "transform/cosine.hpp"
#include "transform/straight_through.hpp"
#include "transform/train_state.hpp"

namespace sentinel {
namespace {

/// A graph's tensors under their names in a checkpoint: those trained by gradients, and the others
/// (batch statistics, bounds).
struct State {
  LiveTensors parameters, others;
};

State state_of(Graph& graph) {
  State state;
  for (NodeId id = 0; id < graph.size(); ++id) {
    for_each_tensor(graph[id].op, [&](std::string_view name, at::Tensor& tensor) {
      const bool trained = name == "weight" || name == "bias";
      (trained ? state.parameters : state.others)
          .push_back({graph[id].name + "." + std::string(name), &tensor});
    });
  }
  return state;
}

/// Moves the graph to the training device while it lives, its parameters requiring gradients;
/// leaves plain tensors where they were before.
class Training {
 public:
  Training(Graph& graph, at::Device device) : graph_(graph), home_(home_of(graph)) {
    // Not channels_last: there the oneDNN of LibTorch 1.13 writes past its buffers in the weight
    // gradient of strided 1x1 convolutions whose widths are no multiples of 8, as pruned ones are.
    graph_.to(device);
    state_ = state_of(graph_);
    for (const auto& [name, tensor] : state_.others) *tensor = tensor->detach().clone();
    for (const auto& [name, tensor] : state_.parameters) {
      *tensor = tensor->detach().clone().requires_grad_(true);
    }
  }
  Training(const Training&) = delete;
  Training& operator=(const Training&) = delete;
  ~Training() {
    for (const auto& [name, tensor] : state_.parameters) *tensor = tensor->detach();
    graph_.to(home_);
  }
  const State& state() const { return state_; }

 private:
  static at::Device home_of(Graph& graph) {
    const State state = state_of(graph);
    return state.parameters.empty() ? at::Device(at::kCPU) : state.parameters[0].tensor->device();
  }
  Graph& graph_;
  at::Device home_;
  State state_;
};

/// Copies of the tensors of a state, to return to the best epoch.
class Snapshot {
 public:
  explicit Snapshot(const State& state) : state_(state) {
    for (const auto& [name, tensor] : all()) copies_.push_back(tensor->detach().clone());
  }
  void take() {
    const at::NoGradGuard no_grad;
    std::size_t next = 0;
    for (const auto& [name, tensor] : all()) copies_[next++].copy_(*tensor);
  }
  void restore() const {
    const at::NoGradGuard no_grad;
    std::size_t next = 0;
    for (const auto& [name, tensor] : all()) tensor->copy_(copies_[next++]);
  }
  void list(LiveTensors& tensors) {
    std::size_t next = 0;
    for (const auto& [name, tensor] : all()) tensors.push_back({"best/" + name, &copies_[next++]});
  }

 private:
  LiveTensors all() const {
    LiveTensors tensors = state_.parameters;
    tensors.insert(tensors.end(), state_.others.begin(), state_.others.end());
    return tensors;
  }
  const State& state_;
  std::vector<at::Tensor> copies_;
};

/// Stochastic gradient descent with momentum and weight decay, as PyTorch's SGD.
class Sgd {
 public:
  Sgd(const State& state, const TrainOptions& options) : state_(state), options_(options) {
    for (const auto& [name, parameter] : state.parameters) {
      velocity_.push_back(at::zeros_like(*parameter).detach());
    }
  }
  void list(LiveTensors& tensors) {
    for (std::size_t i = 0; i < velocity_.size(); ++i) {
      tensors.push_back({"velocity/" + state_.parameters[i].name, &velocity_[i]});
    }
  }
  /// Uses up the gradients.
  void step(double learning_rate) {
    const at::NoGradGuard no_grad;
    for (std::size_t i = 0; i < velocity_.size(); ++i) {
      at::Tensor& parameter = *state_.parameters[i].tensor;
      at::Tensor& gradient = parameter.mutable_grad();
      if (!gradient.defined()) continue;
      velocity_[i].mul_(options_.momentum).add_(gradient);
      velocity_[i].add_(parameter, options_.weight_decay);
      parameter.add_(velocity_[i], -learning_rate);
      gradient.reset();
    }
  }

 private:
  const State& state_;
  const TrainOptions& options_;
  std::vector<at::Tensor> velocity_;
};

/// Makes the copies of duplicated channels equal to their originals again. The correction passes
/// gradients to one of the two only.
void tie_copies(Graph& graph) {
  const at::NoGradGuard no_grad;
  for (NodeId id = 0; id < graph.size(); ++id) {
    auto* op = std::get_if<DuplicatedConv>(&graph[id].op);
    if (!op) continue;
    const auto rows = at::tensor(op->duplicated, at::TensorOptions(at::kLong));
    const auto tie = [&](at::Tensor& tensor) {
      if (!tensor.defined()) return;
      tensor.narrow(0, op->out_channels(), rows.size(0))
          .copy_(tensor.index_select(0, rows.to(tensor.device())));
    };
    tie(op->conv.weight);
    tie(op->conv.bias);
  }
}

/// Batches of an epoch. A last batch of a single image is left out: it has no batch statistics.
std::int64_t steps_per_epoch(std::int64_t images, std::int64_t batch_size) {
  const std::int64_t whole = images / batch_size, rest = images % batch_size;
  return whole + (rest > 1 || whole == 0 ? 1 : 0);
}

/// One training run; holds what its epochs share and goes on from where its state file stands.
class Trainer {
 public:
  Trainer(Graph& graph, const Layouts& layouts, const Dataset& images, const Dataset& held_out,
          const TrainOptions& options, const State& state, const TrainStateFile& file)
      : graph_(graph),
        layouts_(layouts),
        masters_(masters_of(graph, layouts)),
        images_(images),
        held_out_(held_out),
        options_(options),
        file_(file),
        sgd_(state, options),
        best_(state) {
    for (const auto& [name, tensor] : state.parameters)
      live_.push_back({"parameter/" + name, tensor});
    for (const auto& [name, tensor] : state.others) live_.push_back({"other/" + name, tensor});
    sgd_.list(live_);
    best_.list(live_);
    progress_ = file.load(live_);
  }

  /// False where a stop was asked for. Leaves the best epoch's tensors.
  bool run(const OnEpoch& report) {
    if (report) {
      for (const EpochReport& done : progress_.reports) report(done);
    }
    std::optional<double> loss = 0;
    while (loss && done() < options_.epochs) {
      loss = epoch(done() + 1);
      if (!loss) continue;
      judge(*loss);
      if (report) report(progress_.reports.back());
    }
    best_.restore();
    return loss.has_value();
  }

 private:
  std::int64_t done() const { return static_cast<std::int64_t>(progress_.reports.size()); }

  /// Mean loss of the epoch (from 1); nothing where a stop was asked for.
  std::optional<double> epoch(std::int64_t epoch) {
    const auto trial = static_cast<std::uint64_t>(epoch);
    const auto order =
        Rng({options_.seed, 0, trial, Purpose::kShuffle}).permutation(images_.size());
    Rng crops({options_.seed, 0, trial, Purpose::kAugment});
    Rng dropout({options_.seed, 0, trial, Purpose::kDropout});
    const std::int64_t steps = steps_per_epoch(images_.size(), options_.batch_size);
    double loss = 0;
    for (std::int64_t step = 0; step < steps; ++step) {
      if (stop_signal() != 0) return std::nullopt;
      const double rate =
          cosine(options_.learning_rate, (epoch - 1) * steps + step, options_.epochs * steps);
      loss += train_on(batch(order, step, crops), rate, dropout);
    }
    return loss / static_cast<double>(steps);
  }

  /// The end of an epoch: is it the best so far? Everything is kept.
  void judge(double loss) {
    const Accuracy accuracy =
        layouts_.empty() ? held_out_accuracy(graph_) : held_out_accuracy(stored());
    if (accuracy.logits.not_finite() > 0) throw_diverged("logits of held-out images are");
    if (accuracy.correct >= progress_.best_correct) {
      progress_.best_correct = accuracy.correct;
      best_.take();
    }
    const auto images = static_cast<double>(std::max<std::int64_t>(1, accuracy.images));
    progress_.reports.push_back(
        {done() + 1, loss, static_cast<double>(accuracy.correct) / images, false});
    file_.save(live_, progress_);
  }

  Accuracy held_out_accuracy(const Graph& graph) const {
    return evaluate(graph, held_out_, options_.device, options_.batch_size);
  }

  /// The network as it would be written now.
  Graph stored() const {
    Graph stored = graph_.clone();
    for (const StoredTensor& tensor : stored_tensors(stored))
      if (!at::isfinite(values_of(stored, tensor)).all().item<bool>() &&
          tensor.kind != TensorClass::kBound)
        throw_diverged("values of " + tensor.name + " are");
    lay_out_values(stored, layouts_);
    return stored;
  }

  Batch batch(const std::vector<std::int64_t>& order, std::int64_t step, Rng& crops) const {
    const auto begin = order.begin() + step * options_.batch_size;
    const auto count = std::min<std::int64_t>(options_.batch_size, order.end() - begin);
    Batch batch =
        images_.batch(std::vector<std::int64_t>(begin, begin + count), graph_.normalisation);
    if (options_.augment)
      batch.images = augment(batch.images,
                             graph_.normalisation.value_or(images_.info().normalisation()), crops);
    return batch;
  }

  /// The state file keeps whole epochs, which another learning rate cannot use.
  [[noreturn]] void throw_diverged(const std::string& what) const {
    throw UserError(
        "training diverged in epoch " + std::to_string(done() + 1) + " (" + what +
        " not finite); lower the learning rate" +
        (options_.state_file.empty() || done() == 0 ? "" : " and say " + spelled(Setting::kFresh)));
  }

  /// The loss; the gradients are in the graph.
  double differentiate(const Batch& batch, Rng& dropout) {
    const AsRead as_read(masters_);
    const at::Tensor output = run_training(graph_, batch.images.to(options_.device), dropout);
    const at::Tensor loss = at::cross_entropy_loss(output, batch.labels.to(options_.device));
    const double value = loss.item<double>();
    if (!std::isfinite(value)) throw_diverged("the loss is");
    loss.backward();
    return value;
  }

  double train_on(const Batch& batch, double rate, Rng& dropout) {
    const double value = differentiate(batch, dropout);
    sgd_.step(rate);
    tie_copies(graph_);
    return value;
  }

  Graph& graph_;
  const Layouts& layouts_;
  std::vector<Master> masters_;
  const Dataset &images_, &held_out_;
  const TrainOptions& options_;
  const TrainStateFile& file_;
  Sgd sgd_;
  Snapshot best_;
  LiveTensors live_;
  TrainProgress progress_;
};

/// Values are masters from now on. How bounds are stored stays.
void store_values_plain(Graph& graph) {
  for (const StoredTensor& tensor : stored_tensors(graph))
    if (tensor.kind != TensorClass::kBound) store_plain(graph, tensor.name);
}

}  // namespace

void check_training(const TrainOptions& options, Setting epochs, Setting batch_size) {
  if (options.epochs < 1 || options.epochs > 1000000) {
    throw UserError(spelled(epochs) + " must be from 1 to 1000000");
  }
  if (options.batch_size < 2) {
    throw UserError(spelled(batch_size) + " must be at least 2: one image has no batch statistics");
  }
  if (!(options.learning_rate > 0) || !std::isfinite(options.learning_rate)) {
    throw UserError(spelled(Setting::kLr) + " must be a finite number above 0");
  }
  if (!(options.momentum >= 0 && options.momentum < 1)) {
    throw UserError(spelled(Setting::kMomentum) + " must be at least 0 and less than 1");
  }
  if (!(options.weight_decay >= 0) || !std::isfinite(options.weight_decay)) {
    throw UserError(spelled(Setting::kWeightDecay) + " must be a finite number, at least 0");
  }
}

bool train(Graph& graph, const Dataset& images, const Dataset& held_out,
           const TrainOptions& options, const OnEpoch& report) {
  if (images.size() == 0) throw UserError("training needs at least one image");
  check_training(options);
  const at::AutoGradMode with_gradients(true);
  const FileLock lock(options.state_file);  // two of one output would overwrite each other's epochs
  const Layouts layouts = layouts_by(options.store, graph);
  std::string fingerprint;
  if (!options.state_file.empty()) {
    fingerprint = training_fingerprint(graph, layouts, images, held_out, options);
  }
  const TrainStateFile file(options.state_file, fingerprint);
  if (options.fresh) file.remove();
  store_values_plain(graph);
  bool ended = false;
  {
    const Training training(graph, options.device);
    ended = Trainer(graph, layouts, images, held_out, options, training.state(), file).run(report);
  }
  lay_out_values(graph, layouts);
  return ended;
}

}  // namespace sentinel
