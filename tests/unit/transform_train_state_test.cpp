#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>

#include "sentinel/core/error.hpp"
#include "sentinel/core/file.hpp"
#include "sentinel/core/stop.hpp"
#include "sentinel/graph/visit.hpp"
#include "sentinel/models/model.hpp"
#include "sentinel/transform/harden.hpp"
#include "sentinel/transform/train.hpp"
#include "unit/io_support.hpp"
#include "unit/transform_support.hpp"

namespace sentinel {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr std::int64_t kEpochs = 4;

Graph net() {
  at::manual_seed(1);
  return test::vgg_like();
}

Graph hardened_net() {
  const Graph plain = net();
  Graph graph = harden(plain, test::random_scores(plain, 1), {}, test::quadrants(32, 1),
                       Comm::local(), at::kCPU);
  remove_limits(graph);
  return graph;
}

bool same_tensors(const Graph& a, const Graph& b) {
  std::vector<at::Tensor> left, right;
  for (NodeId id = 0; id < a.size(); ++id) {
    for_each_tensor(a[id].op, [&](const char*, const at::Tensor& t) { left.push_back(t); });
    for_each_tensor(b[id].op, [&](const char*, const at::Tensor& t) { right.push_back(t); });
  }
  return std::equal(left.begin(), left.end(), right.begin(), right.end(), test::same_bits);
}

class Resuming : public testing::Test {
 protected:
  void TearDown() override { request_stop(0); }

  TrainOptions options() const {
    TrainOptions options;
    options.epochs = kEpochs;
    options.batch_size = 16;
    options.learning_rate = 0.05;
    options.state_file = file_;
    return options;
  }
  bool there() const { return std::filesystem::exists(file_); }

  /// Trains until `epochs` are done, by this call or earlier ones; whether that was the end.
  bool train_until(Graph& graph, std::int64_t epochs, const TrainOptions& options) {
    reports_.clear();
    request_stop(0);
    const bool ended = train(graph, images_, held_out_, options, [&](const EpochReport& report) {
      reports_.push_back(report);
      if (report.epoch == epochs && epochs < options.epochs) request_stop(SIGTERM);
    });
    request_stop(0);
    return ended;
  }
  std::string refusal(Graph graph, const TrainOptions& options) {
    try {
      train(graph, images_, held_out_, options, {});
    } catch (const UserError& error) {
      return std::string("usage: ") + error.what();
    } catch (const DataError& error) {
      return std::string("data: ") + error.what();
    }
    return "";
  }

  test::TemporaryFolder folder_;
  std::string file_ = folder_ / "net.pth.training";
  Dataset images_ = test::quadrants(70, 1), held_out_ = test::quadrants(40, 2);
  std::vector<EpochReport> reports_;
};

TEST_F(Resuming, AfterEveryEpochGivesTheBitsOfAnUndisturbedRun) {
  for (auto* make : {net, hardened_net}) {
    Graph whole = make();
    std::filesystem::remove(file_);
    ASSERT_TRUE(train_until(whole, kEpochs, options()));
    const std::vector<EpochReport> expected = reports_;
    for (std::int64_t epoch = 1; epoch <= kEpochs; ++epoch) {
      if (epoch == 1) std::filesystem::remove(file_);
      Graph graph = make();
      ASSERT_EQ(train_until(graph, epoch, options()), epoch == kEpochs);
      ASSERT_EQ(static_cast<std::int64_t>(reports_.size()), epoch);
      EXPECT_TRUE(there());
      for (std::int64_t i = 0; i < epoch; ++i) {
        const auto at = static_cast<std::size_t>(i);
        EXPECT_EQ(reports_[at].epoch, i + 1);
        EXPECT_EQ(reports_[at].loss, expected[at].loss);
        EXPECT_EQ(reports_[at].accuracy, expected[at].accuracy);
        EXPECT_EQ(reports_[at].stored, i + 1 < epoch);
      }
      EXPECT_TRUE(epoch < kEpochs || same_tensors(graph, whole));
    }
  }
}

/// The file keeps the masters, not what is read of them.
TEST_F(Resuming, KeepsTheMastersOfAStoredNetwork) {
  TrainOptions stored = options();
  stored.store = {parse_store_rule("weight=int3"), parse_store_rule("bias,bn=fp16")};
  for (auto* make : {net, hardened_net}) {
    Graph whole = make();
    std::filesystem::remove(file_);
    ASSERT_TRUE(train_until(whole, kEpochs, stored));
    std::filesystem::remove(file_);
    for (std::int64_t epoch = 1; epoch <= kEpochs; ++epoch) {
      Graph graph = make();
      ASSERT_EQ(train_until(graph, epoch, stored), epoch == kEpochs);
      EXPECT_TRUE(epoch < kEpochs || same_tensors(graph, whole));
    }
    EXPECT_THAT(refusal(make(), options()), HasSubstr("the state of another training"));
    stored.store.back() = parse_store_rule("bias,bn=bf16");
    EXPECT_THAT(refusal(make(), stored), HasSubstr("the state of another training"));
    stored.store.back() = parse_store_rule("bias,bn=fp16");
  }
}

/// A program that is killed before it wrote the network must not train again.
TEST_F(Resuming, AfterTheEndTrainsNothing) {
  Graph whole = net(), again = net();
  ASSERT_TRUE(train_until(whole, kEpochs, options()));
  ASSERT_TRUE(train_until(again, kEpochs, options()));
  for (const EpochReport& report : reports_) EXPECT_TRUE(report.stored);
  EXPECT_TRUE(same_tensors(again, whole));
}

/// Two at once would take each other's epochs.
TEST_F(Resuming, LocksItsFileMeanwhile) {
  Graph graph = net();
  bool locked = false;
  train(graph, images_, held_out_, options(),
        [&](const EpochReport&) { locked = std::filesystem::exists(file_ + ".lock"); });
  EXPECT_TRUE(locked);
  EXPECT_FALSE(std::filesystem::exists(file_ + ".lock"));
}

TEST_F(Resuming, WithoutAStateFileKeepsNothing) {
  TrainOptions plain = options();
  plain.state_file.clear();
  Graph graph = net();
  EXPECT_FALSE(train_until(graph, 2, plain));
  EXPECT_TRUE(std::filesystem::is_empty(folder_ / ""));
}

TEST_F(Resuming, FreshStartsOver) {
  Graph graph = net();
  train_until(graph, 2, options());
  TrainOptions fresh = options();
  fresh.fresh = true;
  Graph other = net();
  ASSERT_FALSE(train_until(other, 1, fresh));
  ASSERT_EQ(reports_.size(), 1u);
  EXPECT_FALSE(reports_[0].stored);
}

TEST_F(Resuming, TheStateOfAnotherTrainingIsRefused) {
  Graph graph = net();
  train_until(graph, 2, options());
  const auto what = AllOf(HasSubstr("usage: "), HasSubstr(file_), HasSubstr("say fresh"));
  std::vector<TrainOptions> others(7, options());
  others[0].epochs = 5;
  others[1].batch_size = 17;
  others[2].learning_rate = 0.04;
  others[3].momentum = 0.8;
  others[4].weight_decay = 0;
  others[5].augment = false;
  others[6].seed = 2;
  for (const TrainOptions& other : others) EXPECT_THAT(refusal(net(), other), what);
  EXPECT_THAT(refusal(test::vgg_like(), options()), what);
  EXPECT_THAT(refusal(hardened_net(), options()), what);
  std::swap(images_, held_out_);
  EXPECT_THAT(refusal(net(), options()), what);
  std::swap(images_, held_out_);
  EXPECT_EQ(refusal(net(), options()), "");
}

TEST_F(Resuming, ADamagedStateIsRefused) {
  Graph graph = net();
  train_until(graph, 2, options());
  const Bytes good = read_file(file_);
  const auto what = AllOf(HasSubstr("data: "), HasSubstr(file_), HasSubstr("say fresh"));
  for (const std::size_t size : {std::size_t{0}, good.size() / 2, good.size() - 1}) {
    write_file_atomic(file_, good.data(), size);
    EXPECT_THAT(refusal(net(), options()), what) << size;
  }
  Bytes flipped = good;  // more bytes than the padding between two entries
  for (std::size_t i = 0; i < 256; ++i) flipped[good.size() / 2 + i] ^= std::byte{1};
  write_file_atomic(file_, flipped);
  EXPECT_THAT(refusal(net(), options()), what);
  Graph model = initial_model("resnet20", 10, 1);
  write_file_atomic(file_, serialize_model(model, {}));
  EXPECT_THAT(refusal(net(), options()), what);
  write_file_atomic(file_, good);
  EXPECT_EQ(refusal(net(), options()), "");
}

TEST_F(Resuming, ANumberThatIsNotWholeIsRefused) {
  Graph graph = net();
  train_until(graph, 2, options());
  const CheckpointFile good = read_pth(file_);
  const std::string record = *good.metadata, key = "\"best_correct\":";
  const std::size_t begin = record.find(key) + key.size(), end = record.find(',', begin);
  for (const char* number : {"1e300", "0.5", "true"}) {
    write_pth(file_, good.tensors, record.substr(0, begin) + number + record.substr(end));
    EXPECT_THAT(refusal(net(), options()), AllOf(HasSubstr("data: "), HasSubstr("say fresh")));
  }
}

TEST(Fitting, HoldsOutTheLastTenthOrSelectsByTheTestImages) {
  const Dataset images = test::quadrants(50, 1), test_images = test::quadrants(30, 2);
  TrainOptions options;
  options.epochs = 2;
  options.batch_size = 16;
  const auto last_tenth = images.batch(45, 50, {});
  for (const BestOn best_on : {BestOn::kHeldOut, BestOn::kTest}) {
    Graph graph = net(), same = net();
    double best = 0;
    EXPECT_TRUE(fit(graph, images, test_images, best_on, options,
                    [&](const EpochReport& report) { best = std::max(best, report.accuracy); }));
    const bool held = best_on == BestOn::kHeldOut;
    const auto right = held ? logits(graph, last_tenth.images).argmax(1).eq(last_tenth.labels).sum()
                            : at::scalar_tensor(evaluate(graph, test_images, at::kCPU).correct);
    EXPECT_DOUBLE_EQ(best, right.to(at::kDouble).item<double>() / (held ? 5 : 30));
    const Dataset judges =
        held
            ? Dataset(images.info(), {images.pixels().begin() + 45 * 3 * 64, images.pixels().end()},
                      {images.labels().begin() + 45, images.labels().end()})
            : test_images;
    train(same, held ? images.first(45) : images, judges, options, {});
    EXPECT_TRUE(same_tensors(graph, same));
  }
  Graph graph = net();
  EXPECT_THROW(fit(graph, images.first(1), test_images, BestOn::kHeldOut, options, {}), UserError);
}

}  // namespace
}  // namespace sentinel
