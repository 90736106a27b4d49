#include "sentinel/protect/train.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string_view>
#include <vector>

#include "protect/augment.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/core/rng.hpp"
#include "sentinel/core/stop.hpp"
#include "sentinel/graph/run.hpp"
#include "sentinel/graph/visit.hpp"

namespace sentinel {
namespace {

/// A graph's tensors: those trained by gradients, and the others (batch statistics, bounds).
struct State {
  std::vector<at::Tensor*> parameters, others;
};

State state_of(Graph& graph) {
  State state;
  for (NodeId id = 0; id < graph.size(); ++id) {
    for_each_tensor(graph[id].op, [&](std::string_view name, at::Tensor& tensor) {
      (name == "weight" || name == "bias" ? state.parameters : state.others).push_back(&tensor);
    });
  }
  return state;
}

/// Moves the graph to the training device while it lives, its parameters requiring gradients;
/// leaves plain tensors where they were before.
class Training {
 public:
  Training(Graph& graph, at::Device device) : graph_(graph), home_(home_of(graph)) {
    graph_.to(device, at::MemoryFormat::ChannelsLast);
    state_ = state_of(graph_);
    for (at::Tensor* tensor : state_.others) *tensor = tensor->detach().clone();
    for (at::Tensor* tensor : state_.parameters) {
      *tensor = tensor->detach().clone().requires_grad_(true);
    }
  }
  Training(const Training&) = delete;
  Training& operator=(const Training&) = delete;
  ~Training() {
    for (at::Tensor* tensor : state_.parameters) *tensor = tensor->detach();
    graph_.to(home_);
  }
  const State& state() const { return state_; }

 private:
  static at::Device home_of(Graph& graph) {
    const State state = state_of(graph);
    return state.parameters.empty() ? at::Device(at::kCPU) : state.parameters[0]->device();
  }
  Graph& graph_;
  at::Device home_;
  State state_;
};

/// Copies of the tensors of a state, to return to the best epoch.
class Snapshot {
 public:
  explicit Snapshot(const State& state) {
    for (const auto* tensors : {&state.parameters, &state.others}) {
      for (const at::Tensor* tensor : *tensors) copies_.push_back(tensor->detach().clone());
    }
  }
  void restore(const State& state) const {
    const at::NoGradGuard no_grad;
    std::size_t next = 0;
    for (const auto* tensors : {&state.parameters, &state.others}) {
      for (at::Tensor* tensor : *tensors) tensor->copy_(copies_[next++]);
    }
  }

 private:
  std::vector<at::Tensor> copies_;
};

/// Stochastic gradient descent with momentum and weight decay, as PyTorch's SGD.
class Sgd {
 public:
  Sgd(const State& state, const TrainOptions& options) : state_(state), options_(options) {
    for (const at::Tensor* parameter : state.parameters) {
      velocity_.push_back(at::zeros_like(*parameter).detach());
    }
  }
  /// Uses up the gradients.
  void step(double learning_rate) {
    const at::NoGradGuard no_grad;
    for (std::size_t i = 0; i < velocity_.size(); ++i) {
      at::Tensor& parameter = *state_.parameters[i];
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

double cosine(double learning_rate, std::int64_t step, std::int64_t steps) {
  const double share = static_cast<double>(step) / static_cast<double>(steps);
  return learning_rate * 0.5 * (1.0 + std::cos(M_PI * share));
}

/// Batches of an epoch. A last batch of a single image is left out: it has no batch statistics.
std::int64_t steps_per_epoch(std::int64_t images, std::int64_t batch_size) {
  const std::int64_t whole = images / batch_size, rest = images % batch_size;
  return whole + (rest > 1 || whole == 0 ? 1 : 0);
}

void check(const Dataset& images, const TrainOptions& options) {
  if (images.size() == 0) throw UserError("training needs at least one image");
  if (options.epochs < 1 || options.epochs > 1000000) {
    throw UserError("--epochs must be from 1 to 1000000");
  }
  if (options.batch_size < 1) throw UserError("--batch-size must be at least 1");
  if (!(options.learning_rate > 0) || !std::isfinite(options.learning_rate)) {
    throw UserError("--lr must be a finite number above 0");
  }
  if (!(options.momentum >= 0 && options.momentum < 1)) {
    throw UserError("--momentum must be at least 0 and less than 1");
  }
  if (!(options.weight_decay >= 0) || !std::isfinite(options.weight_decay)) {
    throw UserError("--weight-decay must be a finite number, at least 0");
  }
}

/// One training run; holds what its epochs share.
class Trainer {
 public:
  Trainer(Graph& graph, const Dataset& images, const TrainOptions& options, const State& state)
      : graph_(graph), images_(images), options_(options), sgd_(state, options) {}

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

 private:
  Batch batch(const std::vector<std::int64_t>& order, std::int64_t step, Rng& crops) const {
    const auto begin = order.begin() + step * options_.batch_size;
    const auto count = std::min<std::int64_t>(options_.batch_size, order.end() - begin);
    Batch batch = images_.batch(std::vector<std::int64_t>(begin, begin + count));
    if (options_.augment) batch.images = augment(batch.images, images_.info(), crops);
    return batch;
  }

  double train_on(const Batch& batch, double rate, Rng& dropout) {
    const auto images = batch.images.contiguous(at::MemoryFormat::ChannelsLast);
    const at::Tensor output = run_training(graph_, images.to(options_.device), dropout);
    const at::Tensor loss = at::cross_entropy_loss(output, batch.labels.to(options_.device));
    const double value = loss.item<double>();
    if (!std::isfinite(value)) {
      throw UserError("training diverged (the loss is not finite); lower the learning rate");
    }
    loss.backward();
    sgd_.step(rate);
    tie_copies(graph_);
    return value;
  }

  Graph& graph_;
  const Dataset& images_;
  const TrainOptions& options_;
  Sgd sgd_;
};

}  // namespace

void train(Graph& graph, const Dataset& images, const Dataset& held_out,
           const TrainOptions& options, const std::function<void(const EpochReport&)>& report) {
  check(images, options);
  const at::AutoGradMode with_gradients(true);
  const Training training(graph, options.device);
  Trainer trainer(graph, images, options, training.state());
  Snapshot best(training.state());
  std::int64_t best_correct = -1;
  for (std::int64_t epoch = 1; epoch <= options.epochs; ++epoch) {
    const auto loss = trainer.epoch(epoch);
    if (!loss) break;
    const Accuracy accuracy = evaluate(graph, held_out, options.device, options.batch_size);
    if (accuracy.correct >= best_correct) {
      best_correct = accuracy.correct;
      best = Snapshot(training.state());
    }
    const auto share = static_cast<double>(std::max<std::int64_t>(1, accuracy.images));
    if (report) report({epoch, *loss, static_cast<double>(accuracy.correct) / share});
  }
  best.restore(training.state());
}

}  // namespace sentinel
