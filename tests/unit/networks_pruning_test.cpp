#include <gtest/gtest.h>

#include <csignal>

#include "sentinel/core/file.hpp"
#include "sentinel/core/hash.hpp"
#include "sentinel/core/stop.hpp"
#include "sentinel/graph/profile.hpp"
#include "sentinel/models/model.hpp"
#include "sentinel/networks/network.hpp"
#include "sentinel/networks/pruning.hpp"
#include "unit/io_support.hpp"

namespace sentinel {
namespace {

class MakingPruned : public testing::Test {
 protected:
  void SetUp() override {
    model_.graph = initial_model("resnet20", 10, 1);
    model_.graph.dataset = "synthetic";
    model_.sha256 = sha256_hex("network");
    model_.file_sha256 = sha256_hex("file");
    job_.plan.ratio = 0.3;
    job_.finetune_epochs = 0;
  }
  void TearDown() override { request_stop(0); }

  NamedModel made(const std::string& command, const std::string& reuse) const {
    const ChannelScores scores = importance_method("l2-norm")->score({model_.graph});
    return make_pruned(Comm::local(), model_, {}, scores, job_, at::kCPU, command,
                       folder_ / "training", reuse);
  }
  /// As the prune command writes it; its hash.
  std::string write(const NamedModel& pruned) const {
    write_file_atomic(folder_ / "pruned.pth", pruned.made);
    return sha256_hex(pruned.made.data(), pruned.made.size());
  }

  test::TemporaryFolder folder_;
  NamedModel model_;
  PruningJob job_;
};

TEST_F(MakingPruned, SaysWhereItComesFrom) {
  const NamedModel pruned = made("first", "");
  EXPECT_EQ(pruned.name, "pruned");
  EXPECT_LT(model_cost(pruned.graph).parameters, model_cost(model_.graph).parameters);
  EXPECT_EQ(pruned.file_sha256, write(pruned));
  const std::string path = folder_ / "pruned.pth";
  const Provenance provenance = read_provenance(read_file(path), path);
  EXPECT_EQ(provenance.parents, std::vector<std::string>{model_.file_sha256});
  EXPECT_EQ(provenance.recipe, pruned.recipe);
  EXPECT_EQ(provenance.command, "first");
  EXPECT_EQ(provenance.network_sha256, pruned.sha256);
}

TEST_F(MakingPruned, ReadsWhatTheSameRecipeMadeAndNothingElse) {
  const std::string path = folder_ / "pruned.pth";
  const std::string first = write(made("first", path));
  EXPECT_EQ(made("second", path).file_sha256, first);
  job_.plan.ratio = 0.2;
  EXPECT_NE(made("second", path).file_sha256, first);
  job_.plan = {0.3, {{"conv1", 0.3}}, GroupScore::kMean};
  EXPECT_NE(made("second", path).file_sha256, first);
  job_.plan = {0.3, {}, GroupScore::kFirst};
  EXPECT_NE(made("second", path).file_sha256, first);
  job_.plan = {0.3, {}, GroupScore::kMean};
  model_.sha256 = sha256_hex("another network");
  EXPECT_NE(made("second", path).file_sha256, first);
}

TEST_F(MakingPruned, AStopInFineTuningEndsWithItsCode) {
  job_.finetune_epochs = 1;
  request_stop(SIGTERM);
  try {
    made("first", "");
    FAIL() << "it went on";
  } catch (const SharedError& error) {
    EXPECT_EQ(error.code(), ExitCode::kStopped);
    EXPECT_NE(std::string(error.what()).find("run the same command again"), std::string::npos);
  }
}

}  // namespace
}  // namespace sentinel
