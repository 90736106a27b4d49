#include "sentinel/transform/train_bounds.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <filesystem>

#include "sentinel/core/error.hpp"
#include "sentinel/core/stop.hpp"
#include "sentinel/graph/visit.hpp"
#include "sentinel/transform/harden.hpp"
#include "sentinel/transform/train.hpp"
#include "transform/adam.hpp"
#include "unit/transform_support.hpp"

namespace sentinel {
namespace {

TEST(Adam, IsPyTorchs) {
  // torch.optim.Adam([b, c], lr=0.1, weight_decay=0.01), five steps of
  // sum(b^2 * [1, 2, 3]) + (c - 1)^2 * b[0]
  at::Tensor b = at::tensor({1.0F, -2.0F, 0.5F}), c = at::tensor(3.0F);
  b.requires_grad_(true);
  c.requires_grad_(true);
  Adam adam({{"b", &b}, {"c", &c}});
  const at::Tensor weights = at::tensor({1.0F, 2.0F, 3.0F});
  const at::AutoGradMode with_gradients(true);
  for (int step = 0; step < 5; ++step) {
    ((b * b * weights).sum() + (c - 1).pow(2) * b[0]).backward();
    adam.step(0.1, 0.01);
  }
  const at::Tensor expected = at::tensor({0.507284403F, -1.50295579F, 0.0278144255F});
  EXPECT_TRUE(at::allclose(b, expected, 1e-6, 1e-7)) << b;  // fp32, in another order
  EXPECT_NEAR(c.item<double>(), 2.51298475, 1e-6);
}

struct Case {
  const char* search;
  BoundsPer per;
};
void PrintTo(const Case& own, std::ostream* out) {
  *out << own.search << static_cast<int>(own.per);
}

/// A trained network with smooth bounds.
class TrainBounds : public testing::TestWithParam<Case> {
 protected:
  TrainBounds() {
    at::manual_seed(9);
    plain_ = test::plain_residual();
    TrainOptions options;
    options.epochs = 8;
    options.augment = false;
    options.batch_size = 32;
    train(plain_, images_, images_, options, {});
    EXPECT_GT(evaluate(plain_, images_, at::kCPU).correct, images_.size() * 9 / 10);
    HardeningPlan plan;
    plan.duplication.ratio = 0;
    plan.clipping = Clipping::kSmooth;
    plan.bounds = GetParam().per;
    plan.search = parse_bound_search(GetParam().search);
    graph_ = harden(plain_, {}, plan, images_, Comm::local(), at::kCPU);
    training_.search = plan.search;
    training_.search.epochs = 2;
  }
  ~TrainBounds() override {
    request_stop(0);
    std::filesystem::remove(state_);
  }

  Graph trained(const BoundTraining& training, const OnBoundEpoch& report = {}) const {
    Graph graph = graph_.clone();
    const TrainedBounds trained = train_bounds(graph, images_, training, report);
    EXPECT_TRUE(trained.ended);
    EXPECT_FALSE(trained.none_kept.has_value());
    return graph;
  }

  std::string state_ =
      (std::filesystem::path(testing::TempDir()) / ("bounds" + std::to_string(::getpid())))
          .string();
  Dataset images_ = test::quadrants(300, 5);
  Graph plain_, graph_;
  BoundTraining training_;
};

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

/// The tensors by name, bounds of activations or all others.
NamedTensors tensors(const Graph& graph, bool bounds) {
  NamedTensors all;
  for (const Node& node : graph.nodes())
    for_each_tensor(node.op, [&](const char* name, const at::Tensor& tensor) {
      if (std::holds_alternative<BoundedActivation>(node.op) == bounds)
        all.emplace_back(node.name + "." + name, tensor.contiguous());
    });
  return all;
}

/// How many words differ.
std::int64_t changed_words(const NamedTensors& a, const NamedTensors& b) {
  EXPECT_EQ(a.size(), b.size());
  std::int64_t changed = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].second.sizes(), b[i].second.sizes()) << a[i].first;
    const auto size = static_cast<std::int64_t>(a[i].second.element_size());
    const auto* x = static_cast<const char*>(a[i].second.data_ptr());
    const auto* y = static_cast<const char*>(b[i].second.data_ptr());
    for (std::int64_t w = 0; w < a[i].second.numel(); ++w)
      changed += std::memcmp(x + w * size, y + w * size, static_cast<std::size_t>(size)) != 0;
  }
  return changed;
}

TEST_P(TrainBounds, LeavesEveryWordButTheBoundsAsItWas) {
  const Graph after = trained(training_);
  EXPECT_GT(tensors(after, false).size(), 20u);
  EXPECT_EQ(changed_words(tensors(after, false), tensors(graph_, false)), 0);
  EXPECT_GT(changed_words(tensors(after, true), tensors(graph_, true)), 0);
  for (const auto& [name, bound] : tensors(after, true))
    EXPECT_FALSE(bound.requires_grad()) << name;
}

/// Adam's first step is as long as the learning rate. Where logits are alike, the slopes for all
/// turns of the labels add up to 0, so that one of them lowers the bound.
TEST_P(TrainBounds, LeavesNoBoundBelow0) {
  std::get<BoundedActivation>(graph_[graph_.find("layer2.0.relu_1")].op).bound.fill_(1e-5F);
  for (std::int64_t turn = 0; turn < 4; ++turn) {
    std::vector<std::int64_t> labels = images_.labels();
    for (std::int64_t& label : labels) label = (label + turn) % 4;
    Graph graph = graph_.clone();
    train_bounds(graph, Dataset(images_.info(), images_.pixels(), labels), training_, {});
    for (const auto& [name, bound] : tensors(graph, true))
      EXPECT_TRUE((bound >= 0).all().item<bool>()) << name << bound.min();
  }
}

TEST_P(TrainBounds, StoppedAndResumedEndsWithTheSameBits) {
  std::int64_t epochs = 0;
  const Graph undisturbed = trained(training_, [&](const BoundEpoch& epoch) {
    EXPECT_EQ(epoch.epoch, ++epochs);
    EXPECT_FALSE(epoch.stored);
  });
  training_.state_file = state_;
  for (std::int64_t stop_after = 1; stop_after < epochs; ++stop_after) {
    training_.fresh = true;
    Graph graph = graph_.clone();
    const TrainedBounds stopped = train_bounds(graph, images_, training_, [&](const auto& epoch) {
      if (epoch.epoch == stop_after) request_stop(SIGUSR1);
    });
    EXPECT_FALSE(stopped.ended);
    request_stop(0);
    training_.fresh = false;
    std::int64_t stored = 0, all = 0;
    const Graph resumed = trained(training_, [&](const BoundEpoch& epoch) {
      EXPECT_EQ(epoch.epoch, ++all);
      stored += epoch.stored ? 1 : 0;
    });
    EXPECT_EQ(stored, stop_after);
    EXPECT_EQ(all, epochs);
    EXPECT_EQ(changed_words(tensors(resumed, true), tensors(undisturbed, true)), 0);
  }
}

TEST_P(TrainBounds, TheStateOfAnotherTrainingIsRefused) {
  training_.state_file = state_;
  trained(training_);
  training_.search.seed = 2;
  Graph graph = graph_.clone();
  EXPECT_THROW(train_bounds(graph, images_, training_, {}), UserError);
}

INSTANTIATE_TEST_SUITE_P(Searches, TrainBounds,
                         testing::Values(Case{"fitact", BoundsPer::kLayer},
                                         Case{"fitact", BoundsPer::kNeuron},
                                         Case{"proact", BoundsPer::kLayer}));

class Proact : public TrainBounds {};

TEST_P(Proact, HasOneBoundForEachSiteAndOfTheLastOneForEachNeuron) {
  const NamedTensors bounds = tensors(graph_, true);
  for (std::size_t s = 0; s + 1 < bounds.size(); ++s) EXPECT_EQ(bounds[s].second.dim(), 0);
  EXPECT_EQ(bounds.back().second.sizes(), at::IntArrayRef({8, 4, 4}));
}

TEST_P(Proact, GoesBackwardsAndRollsBackWhatCostsAccuracy) {
  const HeldOut parts = hold_out(images_);
  const auto correct = [&](const Graph& graph) {
    return evaluate(graph, parts.held_out, at::kCPU).correct;
  };
  const std::int64_t least = correct(plain_) - parts.held_out.size() * 2 / 1000;
  Graph graph = graph_.clone();
  // Too low: whatever later sites do, accuracy is lost.
  std::get<BoundedActivation>(graph[graph.find("relu")].op).bound.mul_(0.02);
  NamedTensors before = tensors(graph.clone(), true);
  std::vector<std::string> sites;
  int rolled_back = 0;
  const auto look = [&](const BoundEpoch& epoch) {
    if (sites.empty() || sites.back() != epoch.site) sites.push_back(epoch.site);
    const NamedTensors now = tensors(graph.clone(), true);
    for (std::size_t s = 0; s < now.size(); ++s) {  // nothing else moves
      if (now[s].first != epoch.site + ".bound") {
        EXPECT_EQ(changed_words({now[s]}, {before[s]}), 0);
      }
    }
    if (epoch.kept) {
      EXPECT_GE(correct(graph), least);
    } else {
      ++rolled_back;
      EXPECT_EQ(changed_words(now, before), 0);
    }
    before = now;
  };
  EXPECT_TRUE(train_bounds(graph, images_, training_, look).ended);
  std::vector<std::string> backwards;
  for (const Node& node : graph.nodes())
    if (std::holds_alternative<BoundedActivation>(node.op))
      backwards.insert(backwards.begin(), node.name);
  EXPECT_EQ(sites, backwards);
  EXPECT_GE(rolled_back, 2 * 4);  // two epochs of each later site
}

TEST_P(Proact, SaysWhereNoEpochIsKept) {
  for (NodeId id = 0; id < graph_.size(); ++id)
    if (auto* own = std::get_if<BoundedActivation>(&graph_[id].op)) own->bound.mul_(0.001);
  const Graph given = graph_.clone();
  const TrainedBounds trained = train_bounds(graph_, images_, training_, {});
  EXPECT_TRUE(trained.ended);
  EXPECT_EQ(changed_words(tensors(graph_, true), tensors(given, true)), 0);
  const Dataset held_out = hold_out(images_).held_out;
  const auto share = [&](const Graph& graph) {
    return static_cast<double>(evaluate(graph, held_out, at::kCPU).correct) /
           static_cast<double>(held_out.size());
  };
  ASSERT_TRUE(trained.none_kept.has_value());
  EXPECT_EQ(trained.none_kept->with_bounds, share(given));
  EXPECT_EQ(trained.none_kept->without_bounds, share(plain_));
  EXPECT_LT(trained.none_kept->with_bounds, trained.none_kept->without_bounds - 0.002);
}

INSTANTIATE_TEST_SUITE_P(Searches, Proact, testing::Values(Case{"proact", BoundsPer::kLayer}));

}  // namespace
}  // namespace sentinel
