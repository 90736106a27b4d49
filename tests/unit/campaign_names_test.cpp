#include <gtest/gtest.h>

#include "campaign/job_networks.hpp"
#include "sentinel/core/file.hpp"
#include "sentinel/models/model.hpp"
#include "sentinel/networks/network.hpp"
#include "sentinel/networks/pruning.hpp"
#include "unit/io_support.hpp"

namespace sentinel {
namespace {

Graph plain() {
  Graph graph = initial_model("resnet20", 10, 1);
  graph.dataset = "synthetic";
  return graph;
}

ChannelScores scores_of(const Graph& graph) {
  return importance_method("l2-norm")->score({graph});
}

Graph pruned(const Graph& graph) {
  return prune(graph, scores_of(graph), {0.3, {}, GroupScore::kMean});
}

TEST(Names, SayWhatANetworkIs) {
  const Graph graph = plain();
  const ChannelScores scores = scores_of(graph);
  EXPECT_EQ(steps_of(graph), "");
  EXPECT_EQ(steps_of(pruned(graph)), "pruned");
  EXPECT_EQ(steps_of(sort_channels(graph, scores)), "");
  EXPECT_EQ(steps_of(duplicate_channels(graph, scores, {})), "hardened");
  const Graph bounded = bound_weights(graph, WeightBoundsPer::kLayer);
  EXPECT_EQ(steps_of(bounded), "bounded");
  EXPECT_EQ(steps_of(bound_weights(pruned(graph), WeightBoundsPer::kLayer)), "pruned+bounded");
  const auto restricted = [](const Graph& of) {
    return restrict_activations(of, Clipping::kRanger, BoundsPer::kLayer);
  };
  EXPECT_EQ(steps_of(restricted(graph)), "hardened");
  EXPECT_EQ(steps_of(restricted(bounded)), "hardened");
  EXPECT_EQ(steps_of(restricted(pruned(graph))), "pruned+hardened");
}

/// A format is how a network arrives, a code is protection.
TEST(Names, OfOriginalsDoNotDependOnTheirFormat) {
  for (const Graph& graph : {plain(), pruned(plain())}) {
    const std::string name = name_of(graph, "net.pth");
    Graph stored = graph.clone(), coded = graph.clone();
    store_values(stored, {parse_store_rule("weight=int4"), parse_store_rule("bn=fp16")});
    store_values(coded, {parse_store_rule("weight=int4+bch:8,4")});
    EXPECT_EQ(steps_before_protection(stored), steps_of(graph));
    EXPECT_EQ(name_before_protection(stored, "net.pth"), name);
    EXPECT_EQ(name_of(stored, "net.pth"), joined_steps(steps_of(graph), "stored"));
    EXPECT_EQ(steps_before_protection(coded), std::nullopt);
    EXPECT_EQ(steps_before_protection(bound_weights(graph, WeightBoundsPer::kLayer)), std::nullopt);
  }
}

TEST(Names, KnowWidthsWhereTheFileDoesNotSayWhatWasPruned) {
  Graph graph = pruned(plain());
  graph.origin.clear();  // as the seed tool's files
  EXPECT_EQ(name_of(graph, "net.pth"), "pruned");
  // The origin alone tells, where widths of the architecture are not known.
  graph = pruned(plain());
  graph.architecture = "Net.ts";
  EXPECT_EQ(name_of(graph, "net.pth"), "pruned");
}

TEST(Names, AreOfTheFileWhereNothingBetterIsKnown) {
  Graph graph = plain();
  EXPECT_EQ(name_of(graph, "folder/net.pth"), "unprotected");
  graph.architecture = "Net.ts";
  EXPECT_EQ(name_of(graph, "folder/my net.ts"), "my net");
  EXPECT_EQ(name_of(graph, "folder/a,b\n.ts"), "a_b_");
  EXPECT_EQ(name_of(graph, ""), "unprotected");
  NamedModel model{"net", std::move(graph), "", ""};
  EXPECT_EQ(title_of(model), "Net.ts");
  model.file = "folder/net.ts";
  EXPECT_EQ(title_of(model), "net.ts");
  model.graph = pruned(plain());
  EXPECT_EQ(title_of(model), "resnet20 (pruned)");
}

std::vector<std::string> made_by(const Job& job) {
  std::vector<std::string> texts;
  for (const MadeNetwork& made : made_networks(job)) texts.push_back(made.steps + " " + made.path);
  return texts;
}

TEST(Names, OfWhatACampaignMakes) {
  const test::TemporaryFolder folder;
  const std::string r = folder / "r.h5";
  using Texts = std::vector<std::string>;
  Job job;
  job.output = r;
  job.protect = true;
  EXPECT_EQ(made_by(job), Texts{"hardened " + r + ".hardened.pth"});
  job.pruning = PruningJob();
  EXPECT_EQ(made_by(job), (Texts{"pruned " + r + ".pruned.pth",
                                 "pruned+hardened " + r + ".pruned+hardened.pth"}));
  job.all_combinations = true;
  EXPECT_EQ(made_by(job), (Texts{"pruned " + r + ".pruned.pth", "hardened " + r + ".hardened.pth",
                                 "pruned+hardened " + r + ".pruned+hardened.pth"}));
  job.all_combinations = false;
  write_file_atomic(r + ".hardened.pth", std::string_view("of an earlier version"));
  // Without its result nothing says that it is.
  EXPECT_EQ(made_by(job).back(), "pruned+hardened " + r + ".pruned+hardened.pth");
  write_file_atomic(r, std::string_view("result"));
  EXPECT_EQ(made_by(job).back(), "pruned+hardened " + r + ".hardened.pth");
  job.fresh = true;
  EXPECT_EQ(made_by(job).back(), "pruned+hardened " + r + ".pruned+hardened.pth");
  job.hardened_output = "mine.pth";
  EXPECT_EQ(made_by(job).back(), "pruned+hardened mine.pth");
  job.protection.hardening = {};
  job.protection.hardening.duplication.ratio = 0;
  job.protection.hardening.restricted = false;
  EXPECT_EQ(made_by(job), Texts{"pruned " + r + ".pruned.pth"});
  job.pruning.reset();
  job.hardened_output.clear();
  job.protection.hardening.weight_bounds = WeightBoundsPer::kLayer;
  EXPECT_EQ(made_by(job), Texts{"bounded " + r + ".bounded.pth"});
}

TEST(Names, GivenWithTheirFiles) {
  const test::TemporaryFolder folder;
  const std::string file = folder / "a=b.pth";
  write_file_atomic(file, std::string_view("network"));
  Job job;
  job.also = {file, "ours-2=" + file, "x=gone=.pth", "gone.pth"};
  const auto given = given_networks(job);
  ASSERT_EQ(given.size(), 4u);
  const auto expect = [&](std::size_t at, const std::string& name, const std::string& path) {
    EXPECT_EQ(given[at].name, name);
    EXPECT_EQ(given[at].path, path);
  };
  expect(0, "a=b", file);
  expect(1, "ours-2", file);
  expect(2, "x", "gone=.pth");
  expect(3, "gone", "gone.pth");
  for (const std::string wrong :
       {"hardened=f", "pruned+hardened=f", "=f", "x=", "a b=f", "-x=f", "\x01=f", "ü=f", "x,y=f"}) {
    job.also = {wrong};
    EXPECT_THROW(given_networks(job), UserError) << wrong;
  }
  job.also = {std::string(40, 'n') + "=f"};
  EXPECT_EQ(given_networks(job).size(), 1u);
  job.also = {std::string(41, 'n') + "=f"};
  EXPECT_THROW(given_networks(job), UserError);
  job.also = {"x=f", "x=g"};
  EXPECT_THROW(given_networks(job), UserError);
}

}  // namespace
}  // namespace sentinel
